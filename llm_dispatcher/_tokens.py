"""Estimates of the number of tokens in a text.

Vendors' tokenizers differ. If no vendor has counted, these rules of thumb are used; a vendor's own figure always
replaces them.
"""

from __future__ import annotations

from typing import Final

BYTES_A_TOKEN: Final = 4
"""UTF-8 bytes in a token. Over all languages, bytes mislead less than characters."""

CHARACTERS_A_TOKEN: Final = 4
"""Characters in a token. This is for the running count of a stream, which must cost next to nothing for each chunk."""

MOST_CHARACTERS_A_TOKEN: Final = 8
"""No tokenizer packs more characters than this into a token, on average."""


def bytes_in(text: str) -> int:
    """The length of a text in UTF-8. Halves of characters, which UTF-8 does not allow, are counted too."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def tokens_in_bytes(count: int) -> int:
    """The estimated tokens of so many bytes, rounded up."""
    return -(-count // BYTES_A_TOKEN)


def estimated_tokens(text: str) -> int:
    """The estimated tokens of a text, rounded up."""
    return tokens_in_bytes(bytes_in(text))
