"""`llm-dispatcher providers` and `llm-dispatcher models --offered`: the checks and the models of the configured
providers.

Every provider is asked at the same time, each for at most `timeout` seconds. A provider answers by its methods `check`
and `models`; a third party's provider that does not have them is not asked.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final, TypeVar

from .._config import config_dump, load
from .._policy import Policy, ProviderSettings
from .._providers import check, make, offered_models
from .._redaction import loggable
from .._vendors.table import vendor
from ..exceptions import LLMDispatcherError
from ..provider import CheckResult, Provider
from .exit_codes import FAILED, SUCCESS
from .printing import one_line, say_json, say_table

Answer = TypeVar("Answer")

NOT_ASKED: Final = CheckResult(ok=None, message="not asked")


def providers(config: Path | None, *, ask: bool, timeout: float, as_json: bool) -> int:
    """Print the configured providers and the result of their checks. The exit code is 1 if a check failed."""
    policy = load(config)
    results = asyncio.run(_ask_all(policy, check, timeout)) if ask else {}
    dump = config_dump(policy)["providers"]
    assert isinstance(dump, dict)
    rows: list[dict[str, object]] = []
    failed = False
    for name, settings in policy.providers.items():
        result = _as_check(results.get(name, NOT_ASKED))
        failed = failed or result.ok is False
        rows.append(
            {
                "provider": name,
                "kind": settings.kind,
                "address": dump[name].get("base_url") or vendor(settings.kind).base_url or "unknown",
                "key": key_in_words(settings, os.environ),
                "models": list(settings.models),
                "ok": result.ok,
                "health": one_line(result.message),
                "status": result.status,
                "milliseconds": result.milliseconds,
            }
        )
    if as_json:
        say_json(rows)
    else:
        heading = ("provider", "kind", "address", "key", "models", "health", "ms")
        say_table(heading, (_cells(row) for row in rows))
    return FAILED if failed else SUCCESS


def offered(config: Path | None, *, timeout: float, as_json: bool) -> int:
    """Print the models that the configured providers offer. The exit code is 1 if a provider could not be asked."""
    policy = load(config)
    answers = asyncio.run(_ask_all(policy, offered_models, timeout))
    errors = {name: _message(answer) for name, answer in answers.items() if isinstance(answer, Exception)}
    models = {name: answer for name, answer in answers.items() if not isinstance(answer, Exception)}
    if as_json:
        say_json([
            {
                "provider": name,
                "models": models.get(name),
                "configured": list(settings.models),
                "error": errors.get(name),
            }
            for name, settings in policy.providers.items()
        ])  # fmt: skip
    else:
        say_table(("provider", "model", "configured"), _offered_rows(policy, models, errors))
    return FAILED if errors else SUCCESS


def _offered_rows(
    policy: Policy, models: Mapping[str, list[str] | None], errors: Mapping[str, str]
) -> list[tuple[str, str, str]]:
    rows: list[tuple[str, str, str]] = []
    for name, settings in policy.providers.items():
        configured = {settings.vendor_model(model) for model in settings.models}
        names = models.get(name)
        if names is None:
            rows.append((name, f"({errors.get(name, 'not asked: it has no list of models')})", ""))
            continue
        rows += [(name, model, "yes" if model in configured else "") for model in sorted(names)]
        rows += [(name, model, "yes, but not offered") for model in sorted(configured - set(names))]
    return rows


def key_in_words(settings: ProviderSettings, environ: Mapping[str, str]) -> str:
    """Whether there is a key, and its source; never the key itself."""
    if settings.api_key is None:
        return "none"
    for variable in vendor(settings.kind).key_variables:
        if environ.get(variable, "").strip() == settings.api_key.reveal():
            return f"*** from {variable}"
    return "***"


async def _ask_all(
    policy: Policy, question: Callable[[Provider], Awaitable[Answer]], timeout: float
) -> dict[str, Answer | Exception]:
    """Ask every provider at once. An exception stands in place of an answer; a third party's may be any."""

    async def ask(settings: ProviderSettings) -> Answer | Exception:
        try:
            provider = make(settings)
            try:
                async with asyncio.timeout(timeout):
                    return await question(provider)
            finally:
                await provider.aclose()
        except Exception as error:  # noqa: BLE001 - one provider's error must not hide the answers of the others
            return error

    answers = await asyncio.gather(*(ask(settings) for settings in policy.providers.values()))
    return dict(zip(policy.providers, answers, strict=True))


def _as_check(answer: CheckResult | Exception) -> CheckResult:
    if isinstance(answer, CheckResult):
        return answer
    return CheckResult(ok=False, message=_message(answer))


def _message(error: Exception) -> str:
    """An error in one line."""
    if isinstance(error, TimeoutError) and not isinstance(error, LLMDispatcherError):
        return "unreachable: no answer in time"
    text = error.message if isinstance(error, LLMDispatcherError) else f"{type(error).__name__}: {error}"
    return one_line(loggable(text))


def _cells(row: Mapping[str, object]) -> tuple[str, ...]:
    models, milliseconds = row["models"], row["milliseconds"]
    assert isinstance(models, list)
    words = [str(row[name]) for name in ("provider", "kind", "address", "key")]
    return (*words, str(len(models)), str(row["health"]), "" if milliseconds is None else str(milliseconds))
