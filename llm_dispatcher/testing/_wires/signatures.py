"""Signatures of reasoning: each simulated vendor has its own, and refuses those of the others."""

from __future__ import annotations

import re
from typing import Final

from .._script import Wire

SIGNATURES: Final = {
    Wire.ANTHROPIC: "c2ltdWxhdGVk",
    Wire.GOOGLE: "c2ltdWxhdGVkIGdvb2dsZQ==",
    Wire.OPENAI_RESPONSES: "gAAAAABzaW11bGF0ZWQgb3BlbmFp",
}
UNCHECKED: Final = "skip_thought_signature_validator"
"""What Google takes with a call that the model has not made itself."""

_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]+=*")


def is_base64(signature: object) -> bool:
    """Whether a signature is text in base64, in either alphabet."""
    return isinstance(signature, str) and _BASE64.fullmatch(signature) is not None


def is_foreign(wire: Wire, signature: object) -> bool:
    """Whether a vendor would see that a signature is not its own. Those of real vendors are all taken."""
    others = {value for other, value in SIGNATURES.items() if other is not wire} | {UNCHECKED}
    return not is_base64(signature) or signature in others
