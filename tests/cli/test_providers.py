"""`llm-dispatcher providers`: who can be reached, and who takes their key."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from llm_dispatcher.testing import SimulatedVendor

KEY = "fake-credential-of-the-tests"


class House(ThreadingHTTPServer):
    """A vendor that answers every GET with one status."""

    daemon_threads = True

    def __init__(self) -> None:
        self.status = 200
        self.location: str | None = None
        self.asked: list[tuple[str, dict[str, str]]] = []
        super().__init__(("127.0.0.1", 0), Door)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Door(BaseHTTPRequestHandler):
    server: House

    def do_GET(self) -> None:
        self.server.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        self.send_response(self.server.status)
        if self.server.location is not None:
            self.send_header("location", self.server.location)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture
def house() -> Iterator[House]:
    with House() as opened:
        thread = threading.Thread(target=opened.serve_forever, args=(0.01,))
        thread.start()
        yield opened
        opened.shutdown()
        thread.join()


def configure(kind: str, address: str, **more: Any) -> None:
    entry = {"kind": kind, "base_url": address, "api_key": KEY, "models": ["m"], **more}
    Path("llm_dispatcher.yaml").write_text(json.dumps({"providers": {"mine": entry}}))


@pytest.mark.parametrize(
    ("kind", "path", "header", "value"),
    [
        ("openai", "/models", "authorization", f"Bearer {KEY}"),
        ("groq", "/models", "authorization", f"Bearer {KEY}"),
        ("anthropic", "/v1/models?limit=1000", "x-api-key", KEY),
        ("google", "/v1beta/models?pageSize=1000", "x-goog-api-key", KEY),
        ("ollama", "/api/tags", "authorization", f"Bearer {KEY}"),
    ],
)
def test_each_kind_is_asked_for_its_models_with_its_key(
    kind: str, path: str, header: str, value: str, house: House, run: Any
) -> None:
    configure(kind, house.address, headers={"x-team": "blue"})
    done = run("providers")
    assert done.exit_code == 0
    ((asked, headers),) = house.asked
    assert asked == path
    assert headers[header] == value
    assert headers["x-team"] == "blue"
    assert KEY not in done.output


@pytest.mark.parametrize(
    ("status", "ok", "words"),
    [
        (200, True, "ok"),
        (401, False, "refuses the key (HTTP 401)"),
        (403, False, "refuses the key (HTTP 403)"),
        (404, True, "reachable; the key was not checked (HTTP 404)"),
        (429, True, "ok, but it has too many requests (HTTP 429)"),
        (503, False, "error (HTTP 503)"),
    ],
)
def test_the_answer_of_a_vendor_is_reported(status: int, ok: bool, words: str, house: House, run: Any) -> None:
    house.status = status
    configure("openai", house.address)
    done = run("providers", "--json")
    (said,) = json.loads(done.stdout)
    assert (said["ok"], said["health"], said["status"]) == (ok, words, status)
    assert done.exit_code == (0 if ok else 1)
    assert words in run("providers").stdout


def test_a_key_is_not_carried_to_where_an_answer_points(house: House, run: Any) -> None:
    house.status, house.location = 302, f"{house.address}/elsewhere"
    configure("openai", house.address)
    run("providers")
    assert [path for path, _ in house.asked] == ["/models"]


def test_a_vendor_that_does_not_listen_is_unreachable(run: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and not listening
        configure("openai", f"http://127.0.0.1:{taken.getsockname()[1]}")
        done = run("providers", "--json")
    (said,) = json.loads(done.stdout)
    assert (done.exit_code, said["ok"], said["status"]) == (1, False, None)
    assert said["health"].startswith("unreachable: ")


def test_a_silent_vendor_is_unreachable(run: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        configure("openai", f"http://127.0.0.1:{silent.getsockname()[1]}")
        (said,) = json.loads(run("providers", "--timeout", "0.1", "--json").stdout)
    assert said["health"] == "unreachable: no answer in time"


def test_a_server_that_does_not_speak_http_is_reported(run: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as strange:

        def answer() -> None:
            caller, _ = strange.accept()
            with caller:
                caller.recv(4_096)
                caller.sendall(b"220 mail.example.org ready\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        configure("openai", f"http://127.0.0.1:{strange.getsockname()[1]}")
        done = run("providers", "--json")
        thread.join()
    (said,) = json.loads(done.stdout)
    assert (done.exit_code, said["ok"]) == (1, False)
    assert "not in HTTP" in said["health"]


def test_a_provider_that_must_not_be_asked_is_not_asked(
    house: House, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("LLM_DISPATCHER_TRUST_CONFIG", str(Path("llm_dispatcher.yaml").absolute()))
    Path("llm_dispatcher.yaml").write_text(
        f"providers: {{anthropic: {{base_url: '{house.address}'}}, ollama: {{models: [m]}}}}"
    )
    done = run("providers", "--no-ask", "--json")
    anthropic, ollama = json.loads(done.stdout)
    assert (done.exit_code, house.asked) == (0, [])
    assert (anthropic["key"], anthropic["ok"], anthropic["health"]) == (
        "*** from ANTHROPIC_API_KEY",
        None,
        "not asked",
    )
    assert (ollama["key"], ollama["address"]) == ("none", "http://localhost:11434")


WIRES = ("openai-chat", "openai-responses", "anthropic", "google", "ollama")


@pytest.mark.found("N-B14")
def test_a_simulated_vendors_key_can_be_checked(write: Any, run: Any, simulated_vendor: Any) -> None:
    vendors: list[SimulatedVendor] = [simulated_vendor(wire, api_key="test-key") for wire in WIRES]
    done = run("providers", "--json", "-c", write(*vendors))
    assert done.exit_code == 0
    assert [said["health"] for said in json.loads(done.stdout)] == ["ok"] * len(WIRES)
    others: list[SimulatedVendor] = [simulated_vendor(wire, api_key="another-key") for wire in WIRES]
    done = run("providers", "--json", "-c", write(*others))
    assert [said["health"] for said in json.loads(done.stdout)] == ["refuses the key (HTTP 401)"] * len(WIRES)


def test_the_models_that_vendors_offer_are_listed_beside_those_that_are_configured(
    run: Any, simulated_vendor: Any, tmp_path: Path
) -> None:
    entries = {}
    for wire in WIRES:
        vendor: SimulatedVendor = simulated_vendor(wire, models=["m", "other"], api_key="test-key")
        kind, _, api = wire.partition("-")
        entries[wire] = {"kind": kind, "base_url": vendor.base_url, "api_key": "test-key", "models": ["m", "gone"]}
        if api:
            entries[wire]["api"] = api
    policy = tmp_path / "policy.yaml"
    policy.write_text(json.dumps({"providers": entries}))
    done = run("models", "--offered", "--json", "-c", str(policy))
    assert done.exit_code == 0
    assert [(each["provider"], sorted(each["models"])) for each in json.loads(done.stdout)] == [
        (wire, ["m", "other"]) for wire in WIRES
    ]
    lines = [line.split() for line in run("models", "--offered", "-c", str(policy)).stdout.splitlines()]
    assert ["ollama", "m", "yes"] in lines and ["ollama", "other"] in lines
    assert ["ollama", "gone", "yes,", "but", "not", "offered"] in lines


def test_a_vendor_that_refuses_to_list_its_models_is_reported(house: House, run: Any) -> None:
    house.status = 401
    configure("openai", house.address)
    done = run("models", "--offered", "--json")
    (said,) = json.loads(done.stdout)
    assert (done.exit_code, said["models"]) == (1, None)
    assert "401" in said["error"]
    assert "401" in run("models", "--offered").stdout


def test_a_provider_without_its_package_is_reported_with_what_to_install(
    house: House, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure("anthropic", house.address)
    monkeypatch.setitem(sys.modules, "anthropic", None)
    done = run("providers", "--json")
    (said,) = json.loads(done.stdout)
    assert (done.exit_code, said["ok"], house.asked) == (1, False, [])
    assert "pip install 'anthropic[aiohttp]'" in said["health"]
