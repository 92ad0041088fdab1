"""Error codes: which error class each code, HTTP status and parameter of a vendor's error stands for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeAlias

from ..exceptions import (
    ContentFilterError,
    ContextLengthExceededError,
    InvalidRequestError,
    ModelNotFoundError,
    ModelUnsupportedError,
    ProviderAuthenticationError,
    ProviderError,
    ProviderQuotaExceededError,
    ProviderRateLimitError,
    ProviderServiceUnavailableError,
    ProviderTimeoutError,
)

VendorError: TypeAlias = ProviderError | InvalidRequestError | ContentFilterError

BY_STATUS: Final[dict[int, type[VendorError]]] = {
    400: InvalidRequestError,
    401: ProviderAuthenticationError,
    402: ProviderQuotaExceededError,
    403: ProviderAuthenticationError,
    404: ModelNotFoundError,
    408: ProviderTimeoutError,
    409: ProviderServiceUnavailableError,
    410: ModelNotFoundError,
    413: ContextLengthExceededError,
    415: ModelUnsupportedError,
    422: InvalidRequestError,
    424: ProviderServiceUnavailableError,
    425: ProviderServiceUnavailableError,
    429: ProviderRateLimitError,
    498: ProviderServiceUnavailableError,  # Groq's: no capacity
    499: ProviderServiceUnavailableError,  # Google's: cancelled, by them
}
"""Any other status from 400 on is an `InvalidRequestError`, and from 500 on a `ProviderServiceUnavailableError`."""

MEDIA_NOT_TAKEN: Final = "media_not_taken"
"""A code of this package for llama.cpp's HTTP 500 to an image or a sound that its model does not take."""

UNKNOWN_TO_LITELLM: Final = "unknown_to_litellm"
"""A code of this package for a model that LiteLLM's proxy does not know. The proxy has no code for it."""

TOOLS_NOT_ENABLED: Final = "tools_not_enabled"
"""A code of this package for a vLLM server that was started without tools. Another target may accept the request."""

_CODES: Final[dict[type[VendorError], tuple[str, ...]]] = {
    InvalidRequestError: (
        "invalid_request_error", "BadRequestError", "INVALID_ARGUMENT", "OUT_OF_RANGE", "ALREADY_EXISTS",
        "invalid_image", "invalid_image_format", "invalid_base64_image", "invalid_image_url", "image_too_large",
        "image_too_small", "image_parse_error", "invalid_image_mode", "image_file_too_large", "empty_image_file",
        "failed_to_download_image", "image_file_not_found", "litellm.BadRequestError",
    ),
    ProviderAuthenticationError: (
        "invalid_api_key", "wrong_api_key", "authentication_error", "permission_error", "account_deactivated",
        "invalid_organization", "ip_not_authorized", "unsupported_country_region_territory", "UNAUTHENTICATED",
        "PERMISSION_DENIED", "API_KEY_INVALID", "API_KEY_SERVICE_BLOCKED", "SERVICE_DISABLED", "CONSUMER_SUSPENDED",
        "organization_on_hold", "organization_type_not_supported", "cmek_context_unavailable", "cmek_key_disabled",
        "cmek_key_network_blocked", "cmek_key_unreachable", "claude_code_key_creator_not_member",
        "no_db_connection",  # LiteLLM's proxy without a database: a key that is not its master key
        "token_not_found_in_db", "expired_key", "auth_error",  # also LiteLLM's
        "litellm.AuthenticationError", "litellm.PermissionDeniedError",
        "FAILED_PRECONDITION",  # Gemini's word for an account that may not be served where it is
    ),
    ProviderQuotaExceededError: (
        "insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "billing_error", "BILLING_DISABLED",
        "contract_spend_limit_reached", "enforced_spend_limit_reached", "linked_organization_spend_limit_reached",
        "linked_organization_billing_unavailable",
        "quota_of_the_day",  # a code of this package for an entry in a list of Google's
        "budget_exceeded", "litellm.BudgetExceededError",
    ),
    ModelNotFoundError: (
        "model_not_found", "not_found_error", "NotFoundError", "NOT_FOUND", "DeploymentNotFound", "invalid_model",
        "model_decommissioned", "litellm.NotFoundError", "key_model_access_denied", "team_model_access_denied",
        "user_model_access_denied", "customer_model_access_denied", "org_model_access_denied",
        "project_model_access_denied", UNKNOWN_TO_LITELLM,
    ),
    ModelUnsupportedError: (
        "unsupported_parameter", "unsupported_value", "unsupported_file", "unsupported_model", "not_supported_error",
        "unsupported_image_media_type", "data_residency_mismatch", "OperationNotSupported", "UNIMPLEMENTED",
        "invalid_json_schema",  # OpenAI's, of a schema that others may take
        "litellm.UnsupportedParamsError",
        MEDIA_NOT_TAKEN, TOOLS_NOT_ENABLED,
    ),
    ContextLengthExceededError: (
        "context_length_exceeded", "string_above_max_length", "request_too_large", "exceed_context_size_error",
        "request_body_too_large_after_decoding", "litellm.ContextWindowExceededError",
    ),
    ContentFilterError: (
        "content_filter", "content_policy_violation", "image_content_policy_violation", "invalid_prompt", "bio_policy",
        "misalignment_policy_violation", "moderation_blocked", "ResponsibleAIPolicyViolation",
        "litellm.ContentPolicyViolationError",
    ),
    ProviderRateLimitError: (
        "rate_limit_error", "rate_limit_exceeded", "rate_limited", "too_many_requests", "too_many_requests_error",
        "queue_exceeded", "ramp_limit_exceeded", "service_tier_capacity_exceeded", "RATE_LIMIT_EXCEEDED",
        "RESOURCE_EXHAUSTED", "litellm.RateLimitError",
    ),
    ProviderTimeoutError: ("timeout_error", "vector_store_timeout", "DEADLINE_EXCEEDED", "litellm.Timeout"),
    ProviderServiceUnavailableError: (
        "server_error", "internal_error", "internal_server_error", "InternalServerError", "api_error",
        "overloaded_error", "engine_overloaded", "slow_down", "service_unavailable", "service_unavailable_error",
        "unavailable_error", "INTERNAL", "UNAVAILABLE", "UNKNOWN", "ABORTED", "CANCELLED", "DATA_LOSS",
        "litellm.ServiceUnavailableError", "litellm.InternalServerError", "litellm.APIConnectionError",
        "litellm.BadGatewayError", "litellm.MidStreamFallbackError",
    ),
}  # fmt: skip
BY_CODE: Final = {code: kind for kind, codes in _CODES.items() for code in codes}

BY_PARAM: Final[dict[str, type[VendorError]]] = {
    "input_tokens": ContextLengthExceededError,  # vLLM's word for a prompt that is longer than the model's window
    "max_tokens": ModelUnsupportedError,  # a limit above what this model can write; another's may be higher
    "max_completion_tokens": ModelUnsupportedError,
    "max_output_tokens": ModelUnsupportedError,
    "model": ModelNotFoundError,
    "response_format": ModelUnsupportedError,
    "text.format.schema": ModelUnsupportedError,
}
"""The class by the parameter that the vendor blames, if its code is only a general one."""

_GENERAL: Final = (InvalidRequestError, ProviderServiceUnavailableError)
"""General codes. The status is more specific than these, e.g. a 401 with "invalid_request_error"."""


def class_of(status: int | None, codes: Iterable[str], param: str | None = None) -> type[VendorError]:
    """The class of a vendor's error.

    A specific code says more than the status, and the status says more than a general code such as
    "invalid_request_error". A request that is wrong in a parameter of `BY_PARAM` is recognised by that. An
    unknown error counts as the vendor's, not as the request's.
    """
    kinds = [BY_CODE[code] for code in codes if code in BY_CODE]
    specific = next((kind for kind in kinds if kind not in _GENERAL), None)
    by_status = None if status is None else _of_status(status)
    if specific is ProviderRateLimitError and by_status is ContextLengthExceededError:
        return by_status  # Groq's, of a request that is larger than a minute's tokens: waiting makes it no smaller
    best = specific or by_status or (kinds[0] if kinds else ProviderServiceUnavailableError)
    return BY_PARAM.get(param or "", best) if best is InvalidRequestError else best


def names_a_model(codes: Iterable[str], param: str | None) -> bool:
    """Whether a 404 is about the model, and not about the path. "not_found_error" may mean both."""
    return param == "model" or any(
        BY_CODE.get(code) is ModelNotFoundError for code in codes if code != "not_found_error"
    )


def _of_status(status: int) -> type[VendorError] | None:
    if status in BY_STATUS:
        return BY_STATUS[status]
    if status >= 500:
        return ProviderServiceUnavailableError
    return InvalidRequestError if status >= 400 else None
