"""The kit for authors of providers: a base class, and helpers to decode answers and translate errors.

The providers of this package are built from it. docs/providers.md shows a provider of one's own, and
`examples/custom_provider` is a whole distribution. No SDK is imported here.
"""

from __future__ import annotations

from .._wire import JSONArrayDecoder, NDJSONDecoder, SSEDataDecoder
from ._base import BaseProvider, check_options
from ._clients import PerLoop
from ._decoding import (
    Decoder,
    OpenResponse,
    Read,
    Splitter,
    ToolCalls,
    as_text,
    new_id,
    pieces_of,
    tokens,
    whole_call,
)
from ._errors import ErrorContext, ErrorReply, RefusedError, error_for, error_message, read_error, translated
from ._rate_limit_headers import allowance, retry_after

__all__ = [
    "BaseProvider",
    "Decoder",
    "ErrorContext",
    "ErrorReply",
    "JSONArrayDecoder",
    "NDJSONDecoder",
    "OpenResponse",
    "PerLoop",
    "Read",
    "RefusedError",
    "SSEDataDecoder",
    "Splitter",
    "ToolCalls",
    "allowance",
    "as_text",
    "check_options",
    "error_for",
    "error_message",
    "new_id",
    "pieces_of",
    "read_error",
    "retry_after",
    "tokens",
    "translated",
    "whole_call",
]
