"""What a vendor's answer that is an error comes to: a table of the words that vendors use, and one of statuses."""

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
"""Other statuses from 400 on are the request's fault, from 500 on the vendor's."""

_CODES: Final[dict[type[VendorError], tuple[str, ...]]] = {
    InvalidRequestError: (
        "invalid_request_error", "BadRequestError", "INVALID_ARGUMENT", "OUT_OF_RANGE", "ALREADY_EXISTS",
        "invalid_image", "invalid_image_format", "invalid_base64_image", "invalid_image_url", "image_too_large",
        "image_too_small", "image_parse_error", "invalid_image_mode", "image_file_too_large", "empty_image_file",
        "failed_to_download_image", "image_file_not_found",
    ),
    ProviderAuthenticationError: (
        "invalid_api_key", "wrong_api_key", "authentication_error", "permission_error", "account_deactivated",
        "invalid_organization", "ip_not_authorized", "unsupported_country_region_territory", "UNAUTHENTICATED",
        "PERMISSION_DENIED", "API_KEY_INVALID", "API_KEY_SERVICE_BLOCKED", "SERVICE_DISABLED", "CONSUMER_SUSPENDED",
        "organization_on_hold", "organization_type_not_supported", "cmek_context_unavailable", "cmek_key_disabled",
        "cmek_key_network_blocked", "cmek_key_unreachable", "claude_code_key_creator_not_member",
        "FAILED_PRECONDITION",  # Gemini's word for an account that may not be served where it is
    ),
    ProviderQuotaExceededError: (
        "insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "billing_error", "BILLING_DISABLED",
        "contract_spend_limit_reached", "enforced_spend_limit_reached", "linked_organization_spend_limit_reached",
        "linked_organization_billing_unavailable",
        "quota_of_the_day",  # ours, for what Google says in a list
    ),
    ModelNotFoundError: (
        "model_not_found", "not_found_error", "NotFoundError", "NOT_FOUND", "DeploymentNotFound", "invalid_model",
        "model_decommissioned",
    ),
    ModelUnsupportedError: (
        "unsupported_parameter", "unsupported_value", "unsupported_file", "unsupported_model", "not_supported_error",
        "unsupported_image_media_type", "data_residency_mismatch", "OperationNotSupported", "UNIMPLEMENTED",
    ),
    ContextLengthExceededError: (
        "context_length_exceeded", "string_above_max_length", "request_too_large", "exceed_context_size_error",
        "request_body_too_large_after_decoding",
    ),
    ContentFilterError: (
        "content_filter", "content_policy_violation", "image_content_policy_violation", "invalid_prompt", "bio_policy",
        "misalignment_policy_violation", "moderation_blocked", "ResponsibleAIPolicyViolation",
    ),
    ProviderRateLimitError: (
        "rate_limit_error", "rate_limit_exceeded", "rate_limited", "too_many_requests", "too_many_requests_error",
        "queue_exceeded", "ramp_limit_exceeded", "service_tier_capacity_exceeded", "RATE_LIMIT_EXCEEDED",
        "RESOURCE_EXHAUSTED",
    ),
    ProviderTimeoutError: ("timeout_error", "vector_store_timeout", "DEADLINE_EXCEEDED"),
    ProviderServiceUnavailableError: (
        "server_error", "internal_error", "internal_server_error", "InternalServerError", "api_error",
        "overloaded_error", "engine_overloaded", "slow_down", "service_unavailable", "service_unavailable_error",
        "unavailable_error", "INTERNAL", "UNAVAILABLE", "UNKNOWN", "ABORTED", "CANCELLED", "DATA_LOSS",
    ),
}  # fmt: skip
BY_CODE: Final = {code: kind for kind, codes in _CODES.items() for code in codes}

_GENERAL: Final = (InvalidRequestError, ProviderServiceUnavailableError)
"""Beside a 401, "invalid_request_error" says less than the status does."""


def class_of(status: int | None, codes: Iterable[str]) -> type[VendorError]:
    """What a vendor says beside the status says more than the status, if it is more than a general word. That of which
    nothing is known is the vendor's trouble, not the request's.
    """
    specific = next((BY_CODE[code] for code in codes if code in BY_CODE), None)
    by_status = None if status is None else _of_status(status)
    if specific in _GENERAL:
        return by_status or specific
    if specific is ProviderRateLimitError and by_status is ContextLengthExceededError:
        return by_status  # Groq's, of a request that is larger than a minute's tokens: waiting makes it no smaller
    return specific or by_status or ProviderServiceUnavailableError


def _of_status(status: int) -> type[VendorError] | None:
    if status in BY_STATUS:
        return BY_STATUS[status]
    if status >= 500:
        return ProviderServiceUnavailableError
    return InvalidRequestError if status >= 400 else None
