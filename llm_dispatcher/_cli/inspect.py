"""The commands `explain`, `models` and `config`, which send nothing."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from msgspec import UNSET, to_builtins
from msgspec.structs import replace

from .. import _catalog as catalog
from .._config import config_dump, config_schema, line_of, load
from .._policy import BODY, OFFLINE, Policy, ProviderSettings
from .._providers import make
from .._routing import Plan, why_unusable
from .._serving.runtime import catalog_of, check_cache
from .._serving.switch import LLMSwitch
from .._vendors.table import VENDORS
from ..exceptions import ConfigurationError, ConfigurationProblem, NoProviderAvailableError
from ..provider import SupportsRung
from ..tasks import Target, TaskRequest, TaskType
from .exit_codes import FAILED, MISCONFIGURED, SUCCESS
from .options import RequestOptions
from .packaged import packaged_file
from .printing import one_line, say, say_json, say_table


def explain(
    request: TaskRequest,
    options: RequestOptions,
    *,
    config: Path | None,
    as_json: bool,
) -> int:
    """Print the targets of a request, in order, and the reasons against the others."""
    switch = LLMSwitch(config)
    about = {"task": str(request.task_type), "configuration": switch.policy.source}
    try:
        plan = switch.explain(
            request,
            optimization_strategy=options.strategy,
            max_cost=options.max_cost,
            max_latency=options.max_latency,
        )
    except NoProviderAvailableError as error:
        if not as_json:
            raise
        unknown = _unknown(switch.policy, error.reasons)
        say_json({**about, "targets": [], "rejected": _by_name(error.reasons), "unknown": unknown})
        return FAILED
    reasons = plan.reasons
    unknown = _unknown(switch.policy, [*plan.targets, *plan.rejected])
    if as_json:
        targets = [
            {"target": str(target), "reason": reasons[target], "rung": rung, "dollars": dollars}
            for target, dollars, rung in zip(plan.targets, plan.dollars, plan.rungs, strict=True)
        ]
        rejected = _by_name(plan.rejected)
        say_json({**about, "strategy": plan.strategy, "targets": targets, "rejected": rejected, "unknown": unknown})
        return SUCCESS
    say(f"{request.task_type} ({plan.strategy}), by {switch.policy.source or 'the keys in the environment'}")
    say_table(*plan_table(plan))
    _say_unknown(unknown)
    return SUCCESS


def plan_table(plan: Plan) -> tuple[Sequence[str], list[tuple[str, ...]]]:
    """A plan as a table: its heading, and a row for each target."""
    reasons = plan.reasons
    rows: list[tuple[str, ...]] = [
        (f"{place}.", str(target), reasons[target], rung or "", "" if dollars is None else f"${dollars:.6f}")
        for place, (target, dollars, rung) in enumerate(
            zip(plan.targets, plan.dollars, plan.rungs, strict=True), start=1
        )
    ]
    rows += [("-", str(target), reason, "", "") for target, reason in plan.rejected.items()]
    return ("", "target", "reason", "if it breaks", "expected cost"), rows


def _by_name(reasons: Mapping[Target, str]) -> dict[str, str]:
    """Reasons by target, for JSON."""
    return {str(target): reason for target, reason in reasons.items()}


def _unknown(policy: Policy, targets: Iterable[Target]) -> list[str]:
    """The targets that the catalog and the configuration do not know. They have their vendor's defaults."""
    return [str(target) for target, can in _capabilities(policy, targets).items() if not can.known]


def _capabilities(policy: Policy, targets: Iterable[Target]) -> dict[Target, catalog.Capabilities]:
    """The capabilities of each target that is a model, without prices."""
    facts = catalog_of(policy)
    models = (target for target in targets if target.provider in policy.providers)
    return {target: facts.capabilities(target, load=False) for target in models}


def _say_unknown(targets: list[str]) -> None:
    for target in targets:
        say(f"note: {one_line(target)} is not in the catalog and has its vendor's defaults; add facts under catalog:")


def _say_why_unusable(capabilities: Mapping[Target, catalog.Capabilities]) -> None:
    for target, can in capabilities.items():
        if (reason := why_unusable(can)) is not None:
            say(f"note: {one_line(str(target))} gets no requests: {reason}")


def models(task: TaskType | None, *, config: Path | None, as_json: bool) -> int:
    """Print the configured models, or those of a task's route in order, with their capabilities and prices."""
    switch = LLMSwitch(config)
    targets = configured_targets(switch.policy) if task is None else switch.policy.route(task).targets
    capabilities = {target: switch.capabilities(target) for target in targets if target.provider != BODY}
    if as_json:
        say_json([_as_json(target, capabilities.get(target)) for target in targets])
        return SUCCESS
    heading = ("model", "input", "output", "window", "$/M in", "$/M out", "continues", "known")
    say_table(heading, (_row(target, capabilities.get(target), switch.policy) for target in targets))
    _say_why_unusable(capabilities)
    return SUCCESS


def configured_targets(policy: Policy) -> list[Target]:
    """The models that the configuration names: of its providers, and of its routes."""
    own_models = [Target(name, model) for name, settings in policy.providers.items() for model in settings.models]
    routed = [target for task in TaskType for target in policy.route(task).targets if target.provider != BODY]
    return list(dict.fromkeys([*own_models, *routed]))


def _as_json(target: Target, can: catalog.Capabilities | None) -> dict[str, object]:
    fields: dict[str, object] = to_builtins(can) if can is not None else {}
    never = None if can is None else why_unusable(can)
    return {"target": str(target), "provider": target.provider, "model": target.model, **fields, "never_asked": never}


def _row(target: Target, can: catalog.Capabilities | None, policy: Policy) -> tuple[str, ...]:
    if can is None:
        return (str(target), "the function's own body", *[""] * 6)
    inputs = ["text", *(name for name in ("vision", "audio") if getattr(can, name))]
    outputs = [
        name for name in ("text", "transcription", "tools", "structured_output", "reasoning") if getattr(can, name)
    ]
    if not can.known and policy.providers[target.provider].kind not in VENDORS:
        inputs, outputs = ["?"], ["?"]  # A kind of a third party: only its package knows.
    return (
        str(target),
        " ".join(inputs),
        " ".join(outputs),
        f"{can.context_window:,}" if can.context_window is not None else "?",
        f"{can.input_price:g}" if can.input_price is not None else "?",
        f"{can.output_price:g}" if can.output_price is not None else "?",
        can.continues,
        "yes" if can.known else "vendor's defaults",
    )


def check(file: Path | None, *, as_json: bool) -> int:
    """Check a configuration, and report all of its problems."""
    try:
        policy = _checked(file)
    except ConfigurationError as error:
        if not as_json:
            raise
        say_json({"valid": False, "configuration": error.file, "problems": to_builtins(error.problems)})
        return MISCONFIGURED
    targets = configured_targets(policy)
    unknown, capabilities = _unknown(policy, targets), _capabilities(policy, targets)
    if as_json:
        never = {
            str(target): reason for target, can in capabilities.items() if (reason := why_unusable(can)) is not None
        }
        about: dict[str, object] = {
            "problems": [],
            "unknown": unknown,
            "never_asked": never,
            "not_kept": [str(target) for target in _not_kept(policy, targets)],
        }
        say_json({"valid": True, "configuration": policy.source, **about})
    else:
        count = sum(len(settings.models) for settings in policy.providers.values())
        where = policy.source or "no file, only the keys in the environment"
        counts = (
            _count(len(policy.providers), "provider"),
            _count(count, "model"),
            _count(len(policy.tasks) + 1, "route"),
        )
        say(f"{where}: valid: {', '.join(counts)}")
        _say_unknown(unknown)
        _say_why_unusable(capabilities)
        for target in _not_kept(policy, targets):
            say(f"note: durability: reattachable changes nothing for {one_line(str(target))}: its runs cannot be kept")
    return SUCCESS


def _not_kept(policy: Policy, targets: Iterable[Target]) -> list[Target]:
    """The targets whose runs the configuration wants to be kept, and that cannot keep any. If the setting is for all
    providers and one of them can, it is meant for that one, and the others are not in this list.
    """
    wanted = [
        target
        for target in targets
        if target.provider in policy.providers
        and policy.providers[target.provider].durability_of(target.model) == "reattachable"
    ]
    cannot = [target for target in wanted if not _keeps_runs(policy.providers[target.provider], target.model)]
    if cannot == wanted or policy.resilience.durability == "live":
        return cannot
    return [target for target in cannot if _has_own_durability(policy.providers[target.provider], target.model)]


def _keeps_runs(settings: ProviderSettings, model: str) -> bool:
    provider = make(settings)
    return isinstance(provider, SupportsRung) and provider.rung(model, TaskRequest("")) == "reattached"


def _has_own_durability(settings: ProviderSettings, model: str) -> bool:
    """Whether the entry of a provider, or of its model, says by itself whether runs are kept."""
    entries = (settings, settings.models.get(model))
    own = (entry.resilience for entry in entries if entry is not None)
    return any(override is not None and override.durability is not UNSET for override in own)


def _checked(file: Path | None) -> Policy:
    """The policy of a configuration. Raises one error with all of its problems.

    If a key is missing, the configuration is read once more as if offline, because what else is wrong counts, too.
    """
    wrong: ConfigurationError | None = None
    try:
        policy = load(file)
        check_cache(policy)
    except ConfigurationError as error:
        try:
            wrong, policy = error, load(file, environ={**os.environ, OFFLINE: "1"})
        except ConfigurationError:
            raise error from None
    found = list(_problems_of_providers(policy))
    if wrong is not None and not found:
        raise wrong
    if found:
        first, others = (found[0], found[1:]) if wrong is None else (wrong, found)
        message = "\n".join([first.message, *map(str, others)])
        problems = found if wrong is None else [*wrong.problems, *found]
        raise ConfigurationError(message, file=first.file, line=first.line, key=first.key, problems=problems)
    return policy


def _problems_of_providers(policy: Policy) -> Iterator[ConfigurationProblem]:
    """The problems that only the providers know, such as an option that a kind does not have."""
    for settings in policy.providers.values():
        try:
            make(settings)
        except ConfigurationError as error:
            for each in error.problems:
                file = each.file or policy.source
                line = line_of(file, each.key) if file and each.key and each.line is None else each.line
                yield replace(each, file=file, line=line)


def show(file: Path | None, *, as_json: bool) -> int:
    """Print the settings in force, without secrets."""
    policy = load(file)
    settings = config_dump(policy)
    if as_json:
        say_json(settings)
        return SUCCESS
    import yaml

    say(f"# {policy.source or 'no file, only the keys in the environment'}")
    say(yaml.safe_dump(settings, sort_keys=False, default_flow_style=None, width=110, allow_unicode=True).rstrip())
    return SUCCESS


def schema(*, markdown: bool) -> int:
    """Print the schema of the configuration as JSON, or its reference as Markdown."""
    if markdown:
        say(packaged_file("docs/configuration.md").read_text(encoding="utf-8").rstrip())
    else:
        say_json(config_schema())
    return SUCCESS


def _count(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
