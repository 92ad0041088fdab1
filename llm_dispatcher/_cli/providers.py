"""`llm-dispatcher providers`: who is configured, whether they can be reached, and whether they take our keys.

Each is asked for its list of models, which costs nothing; with standard means, because no SDK is needed for that.
"""

from __future__ import annotations

import os
import threading
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import asdict

from .. import _clock
from .._config import config_dump, load
from .._policy import ProviderSettings
from .._redaction import redacted
from .._vendors.table import vendor
from .exit_codes import FAILED, SUCCESS
from .printing import one_line, say_json, say_table


class Reached(Struct, frozen=True, kw_only=True):
    """What came of asking a provider. `well` is `None` where it was not asked."""

    well: bool | None
    health: str
    status: int | None = None
    milliseconds: int | None = None


NOT_ASKED: Final = Reached(well=None, health="not asked")


def providers(config: Path | None, *, ask: bool, timeout: float, as_json: bool) -> int:
    """Print all of them; the code says whether those that were asked are well."""
    policy = load(config)
    reached = reach(policy.providers.values(), timeout) if ask else {}
    shown = config_dump(policy)["providers"]
    assert isinstance(shown, dict)
    rows: list[dict[str, object]] = []
    for name, settings in policy.providers.items():
        address = shown[name].get("base_url") or home(settings) or "unknown"
        came = reached.get(name, NOT_ASKED)
        rows.append(
            {
                "provider": name,
                "kind": settings.kind,
                "address": address,
                "key": key_in_words(settings, os.environ),
                "models": list(settings.models),
                **asdict(came),
            }
        )
    if as_json:
        say_json(rows)
    else:
        heading = ("provider", "kind", "address", "key", "models", "health", "ms")
        say_table(heading, (_cells(row) for row in rows))
    return FAILED if any(came.well is False for came in reached.values()) else SUCCESS


def _cells(row: Mapping[str, object]) -> tuple[str, ...]:
    models, milliseconds = row["models"], row["milliseconds"]
    assert isinstance(models, list)
    said = [str(row[name]) for name in ("provider", "kind", "address", "key")]
    return (*said, str(len(models)), str(row["health"]), "" if milliseconds is None else str(milliseconds))


def key_in_words(settings: ProviderSettings, environ: Mapping[str, str]) -> str:
    """Whether there is a key and where it came from; never the key."""
    if settings.api_key is None:
        return "none"
    for variable in vendor(settings.kind).key_variables:
        if environ.get(variable, "").strip() == settings.api_key.reveal():
            return f"*** from {variable}"
    return "***"


def home(settings: ProviderSettings) -> str | None:
    """Where a provider is: where its entry says, or else where its kind usually is."""
    if settings.base_url is not None:
        return settings.base_url
    return vendor(settings.kind).base_url


def reach(settings: Iterable[ProviderSettings], timeout: float) -> dict[str, Reached]:
    """Ask them all at once. The threads are daemons: Ctrl-C waits for none of them."""
    answers: SimpleQueue[tuple[str, Reached]] = SimpleQueue()

    def ask(each: ProviderSettings) -> None:
        answers.put((each.name, _asked(each, timeout)))

    asked = [threading.Thread(target=ask, args=(each,), daemon=True) for each in settings]
    for thread in asked:
        thread.start()
    return dict(answers.get() for _ in asked)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A key is not carried to wherever an answer points."""

    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: Any) -> None:
        return None


def _asked(settings: ProviderSettings, timeout: float) -> Reached:
    address = home(settings)
    if settings.options.get("vertex"):
        return Reached(well=None, health="not asked: its address is made by its SDK")
    if address is None:
        return Reached(well=None, health=f"not asked: only the kind {settings.kind} knows its address")
    request = urllib.request.Request(address + _path(settings.kind), headers=_headers(settings))  # noqa: S310 - http(s), checked
    began = _clock.monotonic()
    try:
        with urllib.request.build_opener(_NoRedirects).open(request, timeout=timeout) as answer:
            status = int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        status = error.code
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        words = "no answer in time" if isinstance(reason, TimeoutError) else redacted(one_line(str(reason)))
        return Reached(well=False, health=f"unreachable: {words}")
    except Exception as error:  # noqa: BLE001 - an answer that is no HTTP; a thread that died would never be heard of
        return Reached(well=False, health=f"answers, but not in HTTP ({type(error).__name__})")
    milliseconds = round((_clock.monotonic() - began) * 1000)
    well, health = _judged(status)
    return Reached(well=well, health=health, status=status, milliseconds=milliseconds)


def _path(kind: str) -> str:
    match kind:
        case "anthropic":
            return "/v1/models?limit=1"
        case "google":
            return "/v1beta/models?pageSize=1"
        case "ollama":
            return "/api/tags"
        case _:
            return "/models"


def _headers(settings: ProviderSettings) -> dict[str, str]:
    headers = {**settings.headers, "user-agent": "llm-dispatcher"}
    key = settings.api_key.reveal() if settings.api_key is not None else None
    match settings.kind:
        case "anthropic":
            headers["anthropic-version"] = "2023-06-01"
            name, value = "x-api-key", key
        case "google":
            name, value = "x-goog-api-key", key
        case "azure":
            name, value = "api-key", key
        case _:
            name, value = "authorization", f"Bearer {key}"
    if key is not None and value is not None:
        headers.setdefault(name, value)
    return headers


def _judged(status: int) -> tuple[bool, str]:
    match status:
        case 401 | 403:
            return False, f"refuses the key (HTTP {status})"
        case 429:
            return True, "well, but has too many requests (HTTP 429)"
        case _ if status < 300:
            return True, "well"
        case _ if status < 500:
            return True, f"reachable; its key was not tried (HTTP {status})"
        case _:
            return False, f"unwell (HTTP {status})"
