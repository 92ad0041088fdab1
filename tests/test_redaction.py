"""Redaction: every key of a vendor's format is taken out, and no word that a reader needs."""

from __future__ import annotations

import base64
import json
import random
import string
from collections.abc import Callable, Iterable, Iterator
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_dispatcher import _redaction as redaction
from llm_dispatcher._config import config_schema
from llm_dispatcher._redaction import HIDDEN, conceal, loggable, one_line, redacted
from llm_dispatcher._vendors.table import hosts
from llm_dispatcher.events import Failure
from llm_dispatcher.provider import ProviderSettings, Secret
from tests.conftest import thinned

# ── what is no key ─────────────────────────────────────────────────────────────────────────────────────────────────


def models() -> Iterator[str]:
    from genai_prices.data import providers

    for provider in providers:
        yield provider.id
        for model in provider.models:
            yield model.id
            yield f"{provider.id}/{model.id}"


def setting_names(place: object) -> Iterator[str]:
    if isinstance(place, dict):
        for key, value in place.items():
            yield str(key)
            if isinstance(value, str):
                yield value
            yield from setting_names(value)
    elif isinstance(place, list):
        for each in place:
            yield from setting_names(each)


def sdk_names() -> Iterator[str]:
    """The parameters of what is sent, and the names of all types that they have."""
    import anthropic.types
    import google.genai.types
    import openai.types.chat
    import openai.types.responses
    from openai.resources.responses import AsyncResponses

    for module in (anthropic.types, google.genai.types, openai.types.chat, openai.types.responses):
        for name in dir(module):
            yield name
            kind = getattr(module, name)
            if isinstance(kind, type):
                yield from getattr(kind, "__annotations__", {})
    for function in (
        openai.resources.chat.AsyncCompletions.create,
        AsyncResponses.create,
        anthropic.resources.AsyncMessages.create,
        openai.AsyncOpenAI.__init__,
        anthropic.AsyncAnthropic.__init__,
        google.genai.Client.__init__,
    ):
        yield from function.__annotations__


SENTENCES = (
    "{}",
    "Unknown parameter: '{}'.",
    "The model `{}` does not exist or you do not have access to it.",
    "https://example.org/v1/models/{}:streamGenerateContent?alt=sse",
    '{{"error": {{"param": "{}", "code": null}}}}',
    "deployment_{}",
)


@pytest.mark.found("H-1")
@pytest.mark.parametrize("names", [models, lambda: setting_names(config_schema()), sdk_names, lambda: iter(hosts())])
def test_no_name_that_a_user_needs_is_taken_for_a_key(names: Callable[[], Iterable[str]]) -> None:
    checked = sorted(set(names()))
    assert len(checked) > 10
    for name in thinned(checked):
        said = "\n".join(sentence.format(name) for sentence in SENTENCES)
        assert (redacted(name), redacted(said)) == (name, said)


@pytest.mark.found("H-1")
@pytest.mark.parametrize(
    "said",
    [
        "Unknown parameter: 'keyword_arguments_list'",
        "Unsupported parameter: 'keyframe_interval_seconds'",
        "the model skyfall-large-instruct does not exist",
        "deployment pkg-builder-prod-01",
        "the model sk-learn-assistant-large is not deployed",
        "the model pplx-70b-online was retired",
        "Bearer authentication is needed",
        "Basic authorization was refused: bearer token missing",
        "max_tokens: 4096 is more than this model's 2048",
        "the key=value pairs of the header are malformed",
        "api_key: missing",
    ],
)
def test_an_ordinary_sentence_stays_whole(said: str) -> None:
    assert redacted(said) == said


# ── what is one ────────────────────────────────────────────────────────────────────────────────────────────────────

ALNUM = string.ascii_letters + string.digits
URL_SAFE = ALNUM + "-_"
LOWER = string.ascii_lowercase + string.digits
HEX = string.hexdigits[:16]
FORMATS: dict[str, tuple[str, str, int]] = {
    "openai": ("sk-", ALNUM, 48),
    "openai project": ("sk-proj-", URL_SAFE, 156),
    "openai service account": ("sk-svcacct-", URL_SAFE, 156),
    "anthropic": ("sk-ant-api03-", URL_SAFE, 95),
    "openrouter": ("sk-or-v1-", HEX, 64),
    "deepseek": ("sk-", HEX, 32),
    "litellm": ("sk-", URL_SAFE, 22),
    "google": ("AIza", URL_SAFE, 35),
    "google, new": ("AQ.", URL_SAFE, 50),
    "google token": ("ya29.", URL_SAFE, 120),
    "groq": ("gsk_", ALNUM, 52),
    "xai": ("xai-", ALNUM, 80),
    "hugging face": ("hf_", string.ascii_letters, 34),
    "cerebras": ("csk-", LOWER, 48),
    "together": ("tgp_v1_", URL_SAFE, 43),
    "perplexity": ("pplx-", ALNUM, 48),
    "replicate": ("r8_", ALNUM, 37),
    "fireworks": ("fw_", ALNUM, 24),
    "nvidia": ("nvapi-", URL_SAFE, 64),
    "aws": ("AKIA", string.ascii_uppercase + string.digits, 16),
    "aws session": ("ASIA", string.ascii_uppercase + string.digits, 16),
}
SAYINGS = ("Incorrect API key provided: {}.", "{}", "x={}&y", '{{"key":"{}"}}', "(as {}, was)", "{}\n", "key_{}")


def made(prefix: str, alphabet: str, length: int, chance: random.Random) -> str:
    return prefix + "".join(chance.choices(alphabet, k=length))


@pytest.mark.found("H-1", "B-16")
@pytest.mark.parametrize("vendor", FORMATS)
def test_every_format_of_keys_is_known(vendor: str) -> None:
    """Keys are drawn at random, as vendors draw them."""
    chance = random.Random(vendor)
    for _ in range(100):
        key = made(*FORMATS[vendor], chance)
        for saying in SAYINGS:
            hidden = redacted(saying.format(key))
            assert HIDDEN in hidden
            assert key[-12:] not in hidden


@pytest.mark.parametrize(
    "said",
    [
        "Incorrect API key provided: sk-proj-********************************************f3Aw.",
        "authorization: Bearer 3f9a72cc01b84d5e9f10",
        "Authorization: Basic dXNlcjpwYXNzd29yZDEyMw==",
        "x-api-key: 0123456789abcdef0123",
        "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "POST https://example.org/v1?key=anything&alt=sse",
        "https://someone:a-password@example.org/v1 is not reachable",
        "token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P",
    ],
)
def test_a_key_is_known_by_where_it_stands(said: str) -> None:
    secret = ("f3Aw", "3f9a72", "dXNlcj", "012345", "wJalr", "anything", "a-password", "eyJhbG")
    assert HIDDEN in redacted(said)
    assert not [each for each in secret if each in redacted(said)]


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """No secrets of other tests."""
    monkeypatch.setattr(redaction, "_secrets", ())


KEY = "zq9Canary/Key+0123456789=="
URL_ENCODED = quote(KEY, safe="")


@pytest.mark.found("B-16")
@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize(
    "copy",
    [
        KEY,
        KEY.upper(),
        KEY.lower(),
        KEY.swapcase(),
        URL_ENCODED,
        URL_ENCODED.lower(),
        quote_plus(KEY),
        "".join(f"%{ord(character):02x}" for character in KEY),
        KEY.replace("/", "\\/"),
        "".join(f"\\u{ord(character):04x}" for character in KEY),
        KEY.replace("+", "-").replace("/", "_"),
        f"{KEY[:9]}\n    {KEY[9:]}",
        f"{KEY[:9]}\\n{KEY[9:]}",
        " ".join(KEY),
        KEY[:16],
        KEY.encode().hex(),
        KEY.encode().hex().upper(),
        *(base64.b64encode(before + KEY.encode() + b":after").decode() for before in (b"", b"a", b"ab", b"user:")),
        *(base64.urlsafe_b64encode(before + KEY.encode()).decode() for before in (b"", b"a", b"ab")),
    ],
)
def test_a_known_key_is_found_however_it_is_written(copy: str) -> None:
    said = f"Unauthorized: {copy} is not valid"
    assert len(redacted(said)) >= len("Unauthorized:  is not valid")
    conceal(KEY)
    hidden = redacted(said)
    assert hidden.startswith("Unauthorized: ") and hidden.endswith(" is not valid")
    assert HIDDEN in hidden
    assert "canary" not in hidden.lower() and KEY[9:15] not in hidden
    left = hidden.removeprefix("Unauthorized: ").removesuffix(" is not valid").replace(HIDDEN, "")
    assert len(left) <= 18  # of base64: what stands beside the key


@given(st.text("<>abc \n%é", max_size=30), st.text("<>abc \n%é", max_size=30), st.text("ab1/+-", min_size=8))
def test_all_but_the_key_is_left_as_it_was(before: str, after: str, rest: str) -> None:
    secret = f"9{rest}9"
    before_this, redaction._secrets = redaction._secrets, ()
    try:
        conceal(secret)
        assert redacted(f"{before}{secret}{after}") == f"{before}{HIDDEN}{after}"
    finally:
        redaction._secrets = before_this


@pytest.mark.found("S-D15")
@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("word", ["simulated", "test-key", "lm-studio", "not-needed", "none", "EMPTY", "Placeholder"])
def test_a_plain_word_in_the_place_of_a_key_spoils_no_message(word: str) -> None:
    Secret(word)
    said = f"openai/gpt-{word}: {word} is what the vendor said"
    assert redacted(said) == said


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("secret", ["letmein1", "a-yellow-canary-in-a-mine", "pass word one", "hunter22"])
def test_any_other_secret_is_hidden(secret: str) -> None:
    Secret(secret)
    assert redacted(f"it was {secret}.") == f"it was {HIDDEN}." or " " in secret


@pytest.mark.found("B-16")
@pytest.mark.usefixtures("fresh")
def test_secrets_beside_the_key_are_hidden() -> None:
    ProviderSettings(
        name="a",
        kind="openai",
        base_url="https://someone:pass-0123456789@example.org/v1?token=query-0123456789",
        headers={
            "x-team-key": "team-0123456789",
            "authorization": "Bearer bearer-0123456789",
            "x-team": "research-2024",
        },
        options={"vertex": {"api_token": "option-0123456789"}, "api_version": "2024-10-21"},
    )
    said = (
        "pass-0123456789 query-0123456789 team-0123456789 bearer-0123456789 option-0123456789 research-2024 2024-10-21"
    )
    assert redacted(said) == f"{HIDDEN} {HIDDEN} {HIDDEN} {HIDDEN} {HIDDEN} research-2024 2024-10-21"


def test_a_long_message_costs_little() -> None:
    """No expression here reads a text again and again: these would take minutes."""
    for text in (" " * 200_000, "a" * 200_000, "sk-" * 60_000, "%20" * 60_000, "bearer " * 30_000, "://a:" * 40_000):
        assert len(loggable(text)) <= 2 * len(text)


# ── one line ───────────────────────────────────────────────────────────────────────────────────────────────────────

ACTING = "\x00\x07\x08\x1b\x7f\x9b\u200e\u202e\u2066\ufeff\ud800"


@pytest.mark.found("B-16")
@given(st.text(st.one_of(st.characters(), st.sampled_from("\r\n\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029" + ACTING))))
def test_logged_text_is_one_line_without_control_characters(text: str) -> None:
    line = one_line(text)
    assert len(line.splitlines()) <= 1
    assert not any(character in ACTING or (ord(character) < 32) or (127 <= ord(character) < 160) for character in line)
    line.encode()  # any file can hold it
    assert one_line(line) == line


def test_printable_text_is_logged_unchanged() -> None:
    for text in ("Grüße, 世界! 👩‍💻 שָׁלוֹם", "a  b", "tokens: 5%"):
        assert one_line(text) == text
    assert one_line("x\n  CRITICAL y\x1b[2J") == "x CRITICAL y\\x1b[2J"


def test_a_failure_is_one_line_without_keys() -> None:
    failure = Failure.of(ValueError("x\nCRITICAL\x1b[2J sk-" + "a1" * 20))
    assert failure.message == f"x CRITICAL\\x1b[2J {HIDDEN}"
    assert json.loads(json.dumps(failure.message)) == failure.message
