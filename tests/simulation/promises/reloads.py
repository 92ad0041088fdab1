"""After a reload, streams keep their configuration, new ones use the new one, and dropped providers are released."""

from __future__ import annotations

from tests.simulation.promises.kit import everyone, fail, option, policies_of
from tests.simulation.promises.matching import asked_targets, begins_again, requests, turns_of_rows
from tests.simulation.record import Run


def a_stream_keeps_its_configuration(run: Run) -> None:
    """Every request of a stream goes to a provider of the policy that was in force when the stream began, and only to
    targets that this policy enables and routes to, or that its request names.
    """
    for request in requests(run):
        target, policies = request.served.target, policies_of(run, request.reading)
        if not any(request.vendor.settings == policy.providers.get(target.provider) for policy in policies):
            fail(
                request.reading,
                f"a provider {target.provider} with the settings at its beginning",
                request.vendor.settings,
            )
        has_it = [policy for policy in policies if target.provider in policy.providers]
        if not any(policy.providers[target.provider].is_enabled(target.model) for policy in has_it):
            fail(request.reading, f"no request to {target}, which is disabled", f"one at {request.served.asked_at:.3f}")
        asked = request.reading.plan.request
        if asked.get("model") is not None or asked.get("providers"):
            continue  # `an_answer_comes_from_where_it_may` has those
        kind = asked.get("task_type", "text_generation")
        if not any(target in policy.route(kind).targets for policy in policies):
            fail(
                request.reading,
                f"no request to {target}, to which its route does not go",
                f"one at {request.served.asked_at:.3f}",
            )


def an_ordered_route_is_asked_in_order(run: Run) -> None:
    """A request of an ordered route asks its targets in the order in which the route lists them. A later turn of a
    stream with tools begins where the turn before has ended (`a_later_turn_goes_on_where_it_was`), and so does the turn
    of a session.
    """
    for reading in everyone(run):
        asked = reading.plan.request
        policies = policies_of(run, reading)
        kind = asked.get("task_type", "text_generation")
        routes = [policy.route(kind) for policy in policies]
        strategy = option(reading, "optimization_strategy")
        is_plain = (
            reading.plan.session is None
            and not asked.get("model")
            and not asked.get("providers")
            and option(reading, "max_latency") is None
        )
        if not is_plain or any((strategy or route.strategy) != "ordered" or route.max_latency for route in routes):
            continue
        turns = turns_of_rows(run, reading)
        asked_in_turn = zip(asked_targets(run, reading), begins_again(run, reading), turns.values(), strict=True)
        targets = [target for target, is_again, turn in asked_in_turn if not is_again and not turn]
        if not any(
            _are_in_order([route.targets.index(each) for each in targets if each in route.targets]) for route in routes
        ):
            fail(
                reading,
                f"the order of its route, {', '.join(map(str, routes[0].targets))}",
                ", ".join(map(str, targets)),
            )


def dropped_providers_are_released(run: Run) -> None:
    """A provider that a reload has dropped is released when no stream uses it any more; one that is in force is not."""
    for process in run.processes:
        if process.was_killed:
            continue
        kept = {id(provider) for provider in process.switch._runtime.providers.values()}
        for name, vendors in process.vendors.items():
            for vendor in vendors:
                if id(vendor) not in kept and not vendor.released_at:
                    fail(process, f"the dropped provider {name} is released", "it is not")
                if id(vendor) in kept and vendor.released_at:
                    fail(process, f"the provider {name}, which is in force, is not released", vendor.released_at)


def a_provider_in_use_is_not_released(run: Run) -> None:
    """No provider is released while a stream that began before the reload still reads from it."""
    for process in run.processes:
        for name, vendors in process.vendors.items():
            for vendor in vendors:
                for at in vendor.released_at:
                    for served in vendor.served:
                        if served.asked_at < at < (served.ended_at if served.ended_at is not None else at):
                            fail(process, f"{name} is released after {served.ended_at}, when its stream is over", at)


def _are_in_order(places: list[int]) -> bool:
    return places == sorted(places)
