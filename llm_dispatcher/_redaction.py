"""Cleaning texts for messages and log lines: no keys, no terminal control characters, and no line breaks.

Keys are found in two ways. Those of this process are known (`conceal`), and are found however they are written: in
another case, with escapes of URLs or JSON, broken by white space, cut short, in base64 or in hex. Others are known by
their format: a vendor's prefix and a rest that no word looks like. Words of a vendor's error are never taken for a key
because of a prefix alone: the name of a parameter or a model is often the one word that the reader needs.

Not found: a key of another process without a known format, and a known key that is cut in pieces with other text
between them, reversed or encrypted.

`_secrets` is the one state here. It is a tuple that is replaced as a whole, by any thread, and only ever grows.
See docs/decisions/0011.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from typing import Final, cast

HIDDEN: Final = "[redacted]"

# ── keys that are known ────────────────────────────────────────────────────────────────────────────────────────────

_SHORTEST: Final = 8
"""Shorter texts are not taken out, because that would remove ordinary words."""

_WORDS: Final = r"[A-Za-z]+([-_. ][A-Za-z]+)*"
_LONGEST_WORDS: Final = 16
"""Words shorter than this are what people write where a server wants no key: `not-needed`, `lm-studio`, `simulated`."""

_SEED: Final = 12
"""A key that was cut short is recognised by as many characters, if they are half of it."""

_PLAIN: Final = str.maketrans(
    {
        **{chr(code): chr(code + 32) for code in range(ord("A"), ord("Z") + 1)},
        **dict.fromkeys("\t\n\v\f\r \x85\xa0\u2028\u2029"),
        "-": "+",  # base64 has two alphabets
        "_": "/",
    }
)
_UNIT: Final = r"(?s)%[0-9A-Fa-f]{2}|\\u00[0-9A-Fa-f]{2}|\\[\\/\"nrt]|."
_CHARACTER: Final = r"(?s)."
_BLANKS: Final = frozenset(("\\n", "\\r", "\\t"))

_secrets: tuple[str, ...] = ()


def conceal(secret: str) -> None:
    """Take this text out from now on, whatever it looks like. Texts that are plain words are left alone."""
    global _secrets
    if len(secret) < _SHORTEST or (len(secret) < _LONGEST_WORDS and re.fullmatch(_WORDS, secret)):
        return
    forms = {secret.translate(_PLAIN): None, secret.encode("utf-8", "surrogatepass").hex(): None}
    forms |= dict.fromkeys(form.translate(_PLAIN) for form in _in_base64(secret))
    if new := tuple(form for form in forms if form not in _secrets):
        _secrets = (*_secrets, *new)


def _in_base64(secret: str) -> list[str]:
    """What the secret looks like in the middle of a longer text in base64: there are three ways to fall on its grid."""
    data = secret.encode("utf-8", "surrogatepass")
    forms: list[str] = []
    for offset in range(3):
        encoded = b64encode(bytes(offset) + data).decode().rstrip("=")
        # The characters at either end hold bits of what stands beside the secret as well.
        first = -(-offset * 8 // 6)
        last = (offset + len(data)) * 8 // 6
        forms.append(encoded[first:last])
    return forms


def conceal_credentials(url: str) -> None:
    """Have the user and the password in an address taken out from now on, and the keys in its query."""
    from urllib.parse import unquote, urlsplit  # not loaded to decorate a function

    try:
        address = urlsplit(url)
    except ValueError:
        return
    for secret in (address.password, *(part.partition("=")[2] for part in address.query.split("&"))):
        if secret:
            conceal(unquote(secret))


SECRET_NAME: Final = re.compile(r"(?i)auth|key|token|secret|password|credential|cookie|session|signature")
"""Names of headers and options whose values are secret."""


def conceal_header(name: str, value: str) -> None:
    """Have the value of a header taken out from now on, if its name says that it is secret."""
    if SECRET_NAME.search(name):
        for secret in (value, *value.split()):
            conceal(secret)


def conceal_options(options: Mapping[str, object]) -> None:
    """From now on, take out the texts of those options whose names say that they are secret."""
    for name, value in options.items():
        if isinstance(value, Mapping):
            conceal_options(cast("Mapping[str, object]", value))
        elif isinstance(value, str) and SECRET_NAME.search(str(name)):
            conceal(value)


class Secret:
    """A key. Only `reveal()` gives its text. It is removed from messages and log lines from the moment it is made."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value
        conceal(value)

    def reveal(self) -> str:
        """The key itself."""
        return self._value

    def __repr__(self) -> str:
        return "Secret('***')"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


def _without_known(text: str) -> str:
    plain = text.translate(_PLAIN)
    is_escaped = "%" in text or "\\" in text
    if not is_escaped and not any(form[:_SEED] in plain for form in _secrets):
        return text
    # Read both ways: a percent sign before a key need not be an escape.
    spans = {span for escapes in ((False, True) if is_escaped else (False,)) for span in _places(text, escapes=escapes)}
    pieces: list[str] = []
    copied = 0
    for begin, end in sorted(spans):
        if begin >= copied:
            pieces += [text[copied:begin], HIDDEN]
        copied = max(copied, end)
    return "".join([*pieces, text[copied:]])


def _places(text: str, *, escapes: bool) -> Iterator[tuple[int, int]]:
    """Where a known key stands in the text."""
    plain, places = _read(text, escapes=escapes)
    for form in _secrets:
        for begin, end in _spans(form, plain):
            yield places[begin][0], places[end - 1][1]


def _spans(form: str, plain: str) -> list[tuple[int, int]]:
    """Where the plain text has this form, whole or cut short."""
    spans: list[tuple[int, int]] = []
    seed, least = form[:_SEED], max(min(_SEED, len(form)), len(form) // 2)
    begin = plain.find(seed)
    while begin >= 0:
        length = len(seed)
        while length < len(form) and plain.startswith(form[length], begin + length):
            length += 1
        if length >= least:
            spans.append((begin, begin + length))
        begin = plain.find(seed, begin + max(length if length >= least else 1, 1))
    return spans


def _read(text: str, *, escapes: bool) -> tuple[str, list[tuple[int, int]]]:
    """The text in lower case and without white space, with its escapes undone; and where each character stood."""
    characters: list[str] = []
    places: list[tuple[int, int]] = []
    for unit in re.finditer(_UNIT if escapes else _CHARACTER, text):
        character = unit[0]
        if len(character) == 2:
            character = "" if character in _BLANKS else character[1]
        elif len(character) > 2:
            character = chr(int(character.lstrip("%\\u") or "0", 16))
        plain = character.translate(_PLAIN)
        if plain:
            characters.append(plain)
            places.append(unit.span())
    return "".join(characters), places


# ── keys that are known by their format ────────────────────────────────────────────────────────────────────────────

_REST: Final = r"[A-Za-z0-9*_\-.]"
# The patterns are compiled when they are first used, because compiling them takes milliseconds of each import.
_PREFIXED: Final = (
    r"(?i)(?<![A-Za-z0-9])"
    r"(?:sk-|sk_|pk-|pk_|rk-|rk_|csk-|gsk_|xai-|hf_|r8_|fw_|pplx-|tgp_v1_|nvapi-|ghp_|github_pat_|glpat-)"
    rf"({_REST}{{12,}})"
)
_FIXED: Final = (
    r"(?<![A-Za-z0-9])"
    r"(?:AIza[A-Za-z0-9_\-]{20,}|AQ\.[A-Za-z0-9_\-]{20,}|ya29\.[A-Za-z0-9_\-]{20,}"
    r"|(?:AKIA|ASIA)[A-Z0-9]{16}|ABSK[A-Za-z0-9+/]{40,}={0,2}"
    r"|eyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{8,}(?:\.[A-Za-z0-9_\-]*)?)"
)
_IN_A_HEADER: Final = r"(?i)(?<![A-Za-z0-9])((?:bearer|basic)\s+)([A-Za-z0-9+/=_\-.~]{8,})"
_HEADER: Final = r"(?i)(?<![A-Za-z0-9])(authorization[\"']?\s*[=:]\s*[\"']?(?:bearer|basic)\s+)[^\s\"',;]+"
_ASSIGNED: Final = (
    r"(?i)(?<![A-Za-z0-9])((?:x-)?(?:goog-)?api[-_]?key|secret[-_]access[-_]key|client[-_]secret|access[-_]token"
    r"|authorization|password)([\"']?\s*[=:]\s*[\"']?)([A-Za-z0-9+/=_\-.~]{8,})"
)
_IN_A_QUERY: Final = r"(?i)(?<=[?&])((?:api[-_]?key|key|token|access_token|signature|sig)=)([^\s&\"'#]+)"
_IN_AN_ADDRESS: Final = r"(?<=://)[^/\s:@]*:[^/\s@]+(?=@)"


def _is_random(text: str) -> bool:
    """Whether no word looks like this: digits among letters, or capitals in the middle of a long one."""
    if "***" in text:
        return True  # a vendor has masked it
    has_digit = any(character.isdigit() for character in text)
    is_mixed = any(character.islower() for character in text) and any(character.isupper() for character in text)
    if has_digit and is_mixed and len(text) >= 20:
        return True
    if len(text) >= 16 and len(re.findall("[a-z][A-Z]", text)) >= 2:
        return True
    return any(len(part) >= 10 and any(character.isdigit() for character in part) for part in re.split(r"[-_.]", text))


def redacted(text: str) -> str:
    """The text without our keys and whatever else looks like one; vendors quote keys in their error messages."""
    text = _without_known(text)
    text = re.sub(_PREFIXED, lambda match: HIDDEN if _is_random(match[1]) else match[0], text)
    text = re.sub(_FIXED, HIDDEN, text)
    text = re.sub(_IN_A_HEADER, lambda match: match[1] + HIDDEN if _is_random(match[2]) else match[0], text)
    text = re.sub(_HEADER, lambda match: match[1] + HIDDEN, text)
    text = re.sub(
        _ASSIGNED,
        lambda match: (
            match[1] + match[2] + HIDDEN if re.search("[0-9]", match[3]) and _is_random(match[3]) else match[0]
        ),
        text,
    )
    text = re.sub(_IN_A_QUERY, lambda match: match[1] + HIDDEN, text)
    return re.sub(_IN_AN_ADDRESS, HIDDEN, text)


# ── one line ───────────────────────────────────────────────────────────────────────────────────────────────────────

_BREAK: Final = r"\s+"
_ACTING: Final = "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufff9-\ufffb\ufeff]"
"""Controls, marks that turn the direction of writing, and halves of characters, which no log file can hold."""


def one_line(text: str) -> str:
    """The text in one line, and nothing in it that acts on a terminal: line breaks are spaces, controls are escaped."""
    text = re.sub(_BREAK, lambda match: match[0] if match[0].strip(" ") == "" else " ", text)
    return re.sub(_ACTING, lambda match: match[0].encode("unicode_escape").decode(), text)


def loggable(text: str) -> str:
    """A foreign text for a message or a log line: without keys, and in one line."""
    return one_line(redacted(text))


_LONGEST_ID: Final = 200


def loggable_id(request_id: str | None) -> str | None:
    """A vendor's id of a request. It comes in a header, and some servers write other things there."""
    return None if request_id is None else loggable(request_id[: 2 * _LONGEST_ID])[:_LONGEST_ID]
