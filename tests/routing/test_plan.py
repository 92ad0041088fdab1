"""The plan: who is asked, in which order, and why not the others."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from llm_dispatcher import LLMSwitch
from llm_dispatcher._catalog import Capabilities
from llm_dispatcher._policy import Policy, Route, Strategy, Weights, Wishes
from llm_dispatcher._routing import Conditions, Plan, TargetHealth, plan
from llm_dispatcher._routing.plan import needs_prices
from llm_dispatcher._routing.requirements import demands, unmet_requirement
from llm_dispatcher.exceptions import BudgetExceededError, LLMDispatcherError, NoProviderAvailableError
from llm_dispatcher.provider import BODY, ModelSettings, ProviderSettings
from llm_dispatcher.tasks import AudioPart, Message, Target, TaskRequest, TaskType

ABLE = Capabilities(
    vision=True, audio=True, tools=True, structured_output=True, reasoning=True,
    context_window=100_000, input_price=1.0, output_price=2.0,
)  # fmt: skip
ASK = TaskRequest("hi")


def named(*names: str) -> tuple[Target, ...]:
    return tuple(Target("p", name) for name in names)


def planned(
    route: Route,
    known: Mapping[str, Capabilities] | None = None,
    health: Mapping[str, TargetHealth] | None = None,
    request: TaskRequest = ASK,
    wishes: Wishes | None = None,
    models: Mapping[str, ModelSettings] | None = None,
    **situation: Any,
) -> Plan:
    """The plan over the models of one provider."""
    return plan(
        request,
        Policy({"p": ProviderSettings(name="p", kind="openai", models=models or {})}, route),
        capabilities=lambda target: (known or {}).get(target.model, ABLE),
        conditions=Conditions(health={Target("p", name): each for name, each in (health or {}).items()}, **situation),
        wishes=wishes or Wishes(),
    )


def order(decided: Plan) -> list[str]:
    return [target.model for target in decided.targets]


# ── whatever the world is like ─────────────────────────────────────────────────────────────────────────────────────

maybe_dollars = st.none() | st.floats(0, 50)
abilities = st.builds(
    Capabilities,
    text=st.booleans(), vision=st.booleans(), audio=st.booleans(), transcription=st.booleans(), tools=st.booleans(),
    structured_output=st.booleans(), reasoning=st.booleans(), known=st.booleans(),
    context_window=st.none() | st.integers(1, 2_000), input_price=maybe_dollars, output_price=maybe_dollars,
    quality=st.dictionaries(st.sampled_from(TaskType), st.floats(0, 1), max_size=3),
)  # fmt: skip
healths = st.builds(
    TargetHealth,
    first_token_tail=st.none() | st.floats(0.01, 30),
    tokens_a_second=st.none() | st.floats(1, 500),
    failing=st.floats(0, 1),
    opens_in=st.sampled_from([None, None, 0.0, 5.0]),
)
requests = st.builds(
    TaskRequest,
    st.sampled_from(["hi", "word " * 2_000]),
    task_type=st.sampled_from(TaskType),
    images=st.sampled_from([(), ("a.png",)]), audio=st.sampled_from([(), ("a.wav",)]),
    tools=st.sampled_from([(), ("tool",)]), response_format=st.sampled_from([None, {"type": "object"}]),
    reasoning_effort=st.sampled_from([None, "none", "high"]), max_tokens=st.none() | st.integers(1, 5_000),
    metadata=st.sampled_from([{}, {"user": "ann"}]),
)  # fmt: skip
NAMES = "abcdef"
routes = st.builds(
    Route,
    st.lists(st.sampled_from([*named(*NAMES), Target(BODY, "")]), min_size=1, max_size=8).map(tuple),
    strategy=st.sampled_from(Strategy.__args__),  # type: ignore[attr-defined]
    max_cost=st.none() | st.floats(0, 0.01), max_latency=st.none() | st.floats(0.1, 10),
    split=st.dictionaries(st.sampled_from(named(*NAMES)), st.floats(0, 100)), sticky=st.sampled_from([None, "user"]),
    weights=st.builds(Weights, *[st.floats(0.1, 5)] * 3),
)  # fmt: skip
worlds = st.fixed_dictionaries({
    "route": routes,
    "known": st.fixed_dictionaries(dict.fromkeys(NAMES, abilities)),
    "health": st.dictionaries(st.sampled_from(NAMES), healths),
    "request": requests,
    "models": st.dictionaries(st.sampled_from(NAMES), st.builds(ModelSettings, enabled=st.booleans())),
    "limited": st.dictionaries(st.sampled_from(named(*NAMES)), st.floats(0.1, 60), max_size=2),
    "money_left": st.sampled_from([float("inf"), 0.001, 0.0]),
    "draw": st.floats(0, 1),
    "has_body": st.booleans(),
})  # fmt: skip


@given(worlds)
def test_every_target_is_planned_or_rejected_with_a_reason(world: dict[str, Any]) -> None:
    route, request = world["route"], world["request"]
    refused = ""
    try:
        decided = planned(**world)
    except (NoProviderAvailableError, BudgetExceededError) as error:
        refused = str(error)
    if refused:
        assert all(str(target) in refused for target in route.targets)
        return
    asked, rejected = set(decided.targets), set(decided.rejected)
    assert not asked & rejected
    assert asked | rejected == set(route.targets)
    assert len(decided.targets) == len(asked)
    expected = dict(zip(decided.targets, decided.dollars, strict=True))
    for target in asked:
        if target.provider == BODY:
            assert world["has_body"]
            continue
        can, health = world["known"][target.model], world["health"].get(target.model, TargetHealth())
        dollars = expected[target]
        assert unmet_requirement(can, demands(request)) is None
        assert world["models"].get(target.model, ModelSettings()).enabled
        assert health.opens_in is None
        assert target not in world["limited"] or asked <= set(world["limited"]), "only where nobody else can serve"
        assert route.max_cost is None or (dollars is not None and dollars <= route.max_cost)
        assert world["money_left"] > 0 and (dollars or 0) <= world["money_left"]


@given(worlds)
def test_the_same_world_has_the_same_plan(world: dict[str, Any]) -> None:
    try:
        decided = planned(**world)
    except LLMDispatcherError:
        return
    assert planned(**world) == decided
    assert decided.reasons.keys() == set(decided.targets)
    assert decided.strategy == world["route"].strategy
    figures = [
        (target.provider == BODY and decided.strategy != "ordered", target in decided.late, figure)
        for target, figure in zip(decided.targets, decided.figures, strict=True)
    ]
    assert figures == sorted(figures)


@given(worlds)
def test_equal_targets_keep_their_order(world: dict[str, Any]) -> None:
    try:
        decided = planned(**world)
    except LLMDispatcherError:
        return
    listed = list(dict.fromkeys(world["route"].targets))
    for one, other in zip(range(len(decided.targets)), range(1, len(decided.targets)), strict=False):
        before, after = decided.targets[one], decided.targets[other]
        same = decided.figures[one] == decided.figures[other] and (before in decided.late) == (after in decided.late)
        if same and BODY not in (before.provider, after.provider):
            assert listed.index(before) < listed.index(after)


@given(worlds, st.sampled_from(NAMES))
def test_a_target_that_leaves_changes_nothing_between_the_others(world: dict[str, Any], gone: str) -> None:
    """Dropping one, because its breaker opened or it was disabled, does not reshuffle the rest: a sticky key stays."""
    if world["route"].strategy == "balanced":
        return  # its scale is made of those that are there
    try:
        before = order(planned(**world))
        after = order(planned(**{**world, "models": {**world["models"], gone: ModelSettings(enabled=False)}}))
    except LLMDispatcherError:
        return
    if before == [gone]:
        return  # nobody is left but those whose rate limits are spent, who were not in the running before
    assert after == [name for name in before if name != gone]


# ── each strategy ──────────────────────────────────────────────────────────────────────────────────────────────────


def priced(dollars: float | None) -> Capabilities:
    return replace(ABLE, input_price=dollars, output_price=dollars)


def fast(tail: float, rate: float, failing: float = 0.0) -> TargetHealth:
    return TargetHealth(first_token_tail=tail, tokens_a_second=rate, failing=failing)


def test_cost_is_what_this_request_will_cost() -> None:
    talker, reader = replace(ABLE, input_price=1, output_price=20), replace(ABLE, input_price=10, output_price=2)
    route = Route(named("talker", "reader", "unknown"), "cost")
    known = {"talker": talker, "reader": reader, "unknown": priced(None)}
    short = planned(route, known, request=TaskRequest("word " * 10, max_tokens=400))
    assert order(short) == ["reader", "talker", "unknown"]
    long = planned(route, known, request=TaskRequest("word " * 10_000, max_tokens=20))
    assert order(long) == ["talker", "reader", "unknown"]
    assert short.reasons[Target("p", "unknown")] == "its price is not known"
    assert short.reasons[Target("p", "reader")].startswith("about $0.0009")


def test_speed_is_the_time_until_the_answer_is_whole() -> None:
    health = {"quick to begin": fast(0.2, 20), "quick to end": fast(1.0, 200)}
    route = Route(named(*health), "speed")
    assert order(planned(route, health=health, request=TaskRequest("hi", max_tokens=10)))[0] == "quick to begin"
    assert order(planned(route, health=health, request=TaskRequest("hi", max_tokens=400)))[0] == "quick to end"


def test_a_target_without_fresh_samples_is_tried_unless_it_fails() -> None:
    health = {"known": fast(0.2, 100), "failing": TargetHealth(failing=1.0)}
    assert order(planned(Route(named("known", "failing", "new"), "speed"), health=health)) == [
        "new", "known", "failing",
    ]  # fmt: skip


def test_failures_make_a_target_slow() -> None:
    health = {"flaky": fast(0.2, 100, failing=0.95), "steady": fast(0.5, 100)}
    assert order(planned(Route(named("flaky", "steady"), "speed"), health=health)) == ["steady", "flaky"]


def test_quality_is_the_operators_figure_for_the_task() -> None:
    known = {
        "coder": replace(ABLE, quality={TaskType.CODE_GENERATION: 0.9, TaskType.TRANSLATION: 0.2}),
        "writer": replace(ABLE, quality={TaskType.CODE_GENERATION: 0.4, TaskType.TRANSLATION: 0.8}),
    }
    route = Route(named("stranger", "writer", "coder"), "quality")
    code = planned(route, known, request=TaskRequest("hi", task_type="code_generation"))
    assert order(code) == ["coder", "writer", "stranger"]
    assert order(planned(route, known, request=TaskRequest("hi", task_type="translation")))[0] == "writer"
    assert list(code.reasons.values()) == ["quality 0.9", "quality 0.4", "it has no quality figure"]


def test_the_reasons_say_what_is_known_of_the_speed() -> None:
    health = {"known": fast(0.2, 100), "failing": TargetHealth(failing=1.0)}
    reasons = planned(Route(named("known", "failing", "new"), "speed"), health=health).reasons
    assert reasons[Target("p", "new")] == "its speed is not known yet"
    assert reasons[Target("p", "failing")] == "it has been failing"
    assert reasons[Target("p", "known")].startswith("about ")


def test_the_reasons_of_a_balance_and_of_a_split_name_their_figures() -> None:
    known = {"cheap": priced(1.0), "dear": priced(9.0)}
    route = Route(named("dear", "cheap"), "balanced", weights=Weights(cost=1, speed=0, quality=0))
    assert list(planned(route, known).reasons.values()) == [
        "0.00 on a scale from 0 (the best in all) to 1",
        "1.00 on a scale from 0 (the best in all) to 1",
    ]
    split = Route(named("new", "old"), "weighted", split={Target("p", "old"): 100.0})
    assert list(planned(split, draw=0.5).reasons.values()) == ["its share of the split", "it has no share"]


def test_balance_follows_its_weights() -> None:
    known = {"cheap": priced(1.0), "quick": priced(9.0)}
    health = {"cheap": fast(5.0, 10), "quick": fast(0.1, 100)}

    def first(weights: Weights) -> str:
        return order(planned(Route(named("cheap", "quick"), "balanced", weights=weights), known, health))[0]

    assert first(Weights(cost=2, speed=1, quality=0)) == "cheap"
    assert first(Weights(cost=1, speed=2, quality=0)) == "quick"


def test_a_split_gives_each_its_share_and_a_key_its_place() -> None:
    route = Route(named("old", "new"), "weighted", split=dict(zip(named("old", "new"), (90.0, 10.0), strict=True)))
    dice = random.Random(3)
    drawn = Counter(order(planned(route, draw=dice.random()))[0] for _ in range(2_000))
    assert 0.07 < drawn["new"] / 2_000 < 0.13
    sticky = replace(route, sticky="user")
    homes = {
        user: {
            order(planned(sticky, request=TaskRequest("hi", metadata={"user": user}), draw=draw))[0]
            for draw in (0.1, 0.5, 0.9)
        }
        for user in range(50)
    }
    assert all(len(home) == 1 for home in homes.values())


@given(st.text(max_size=8), st.lists(st.floats(0.1, 100), min_size=6, max_size=6), st.sampled_from(NAMES))
def test_a_target_that_leaves_a_split_moves_only_its_own_keys(key: str, shares: list[float], gone: str) -> None:
    split = dict(zip(named(*NAMES), shares, strict=True))
    route = Route(named(*NAMES), "weighted", split=split, sticky="key")
    request = TaskRequest("hi", metadata={"key": key})
    without = planned(route, request=request, models={gone: ModelSettings(enabled=False)})
    assert order(without) == [name for name in order(planned(route, request=request)) if name != gone]


@given(st.text(max_size=8), st.floats(1, 99), st.floats(0.1, 50))
def test_a_growing_share_takes_keys_and_gives_none_back(key: str, share: float, more: float) -> None:
    def first(new: float) -> str:
        split = dict(zip(named("old", "new"), (100 - share, new), strict=True))
        route = Route(named("old", "new"), "weighted", split=split, sticky="key")
        return order(planned(route, request=TaskRequest("hi", metadata={"key": key})))[0]

    if first(share) == "new":
        assert first(share + more) == "new"


# ── what a call may wish ───────────────────────────────────────────────────────────────────────────────────────────


def test_max_cost_and_max_latency_act() -> None:
    known = {"dear": priced(100.0), "cheap": priced(0.1), "unknown": priced(None)}
    health = {"dear": fast(0.1, 100), "cheap": fast(3.0, 100)}
    route = Route(named("dear", "cheap", "unknown"))
    frugal = planned(route, known, health, wishes=Wishes(max_cost=0.001))
    assert order(frugal) == ["cheap"]
    assert "over max_cost ($0.001)" in frugal.rejected[Target("p", "dear")]
    assert "its price is not known" in frugal.rejected[Target("p", "unknown")]
    hasty = planned(replace(route, targets=named("cheap", "dear")), known, health, wishes=Wishes(max_latency=1.0))
    assert order(hasty) == ["dear", "cheap"], "a slow target is better than none, and comes last"
    assert hasty.reasons[Target("p", "cheap")] == "slower than max_latency; number 1 as listed"
    with pytest.raises(BudgetExceededError, match=r"over max_cost \(\$1e-09\)"):
        planned(Route(named("dear")), known, wishes=Wishes(max_cost=1e-9))


@given(st.floats(0.001, 50), st.floats(0.01, 100))
def test_max_cost_lets_in_what_costs_no_more(dollars: float, share: float) -> None:
    known = priced(dollars)
    expected = known.dollars(demands(ASK).input_tokens, demands(ASK).output_tokens)
    assert expected is not None
    decided = planned(
        Route(named("m", "free")), {"m": known, "free": priced(0.0)}, wishes=Wishes(max_cost=expected * share)
    )
    assert ("m" in order(decided)) == (expected <= expected * share)


def test_a_call_has_a_strategy_of_its_own() -> None:
    known = {"dear": priced(9.0), "cheap": priced(1.0)}
    route = Route(named("dear", "cheap"))
    assert order(planned(route, known)) == ["dear", "cheap"]
    assert order(planned(route, known, wishes=Wishes(strategy="cost"))) == ["cheap", "dear"]


def test_without_fallback_only_the_best_is_asked() -> None:
    decided = planned(Route(named("dear", "cheap"), "cost"), {"dear": priced(9.0)}, wishes=Wishes(fallback=False))
    assert order(decided) == ["cheap"]
    assert decided.rejected == {Target("p", "dear"): "fallback is switched off"}


@pytest.mark.parametrize(
    ("can", "request_", "reason"),
    [
        ({"vision": False}, TaskRequest("hi", images=["a.png"]), "it cannot take images"),
        ({"audio": False}, TaskRequest(messages=[Message("user", AudioPart("a.wav"))]), "it cannot take audio"),
        ({"tools": False}, TaskRequest("hi", tools=["t"]), "it cannot call tools"),
        ({"structured_output": False}, TaskRequest("hi", response_format={}), "it cannot follow a schema"),
        ({"reasoning": False}, TaskRequest("hi", reasoning_effort="low"), "it does not reason"),
        ({"text": False}, TaskRequest("hi"), "it does not generate text"),
        ({"context_window": 100}, TaskRequest("word " * 200), "its context window of 100 tokens is too small for ab"),
        ({"context_window": 100}, TaskRequest("hi", max_tokens=101), "its context window of 100 tokens is too small"),
    ],
)
def test_a_rejected_model_has_the_reason(can: dict[str, Any], request_: TaskRequest, reason: str) -> None:
    decided = planned(Route(named("less", "able")), {"less": replace(ABLE, **can)}, request=request_)
    assert order(decided) == ["able"]
    assert decided.rejected[Target("p", "less")].startswith(reason)


@pytest.mark.parametrize(("window", "is_asked"), [(800, True), (799, False)])
def test_a_window_is_too_small_if_four_fifths_of_the_estimate_do_not_fit(window: int, is_asked: bool) -> None:
    """The estimate is 1,000 tokens, and a tokenizer may count a fifth less."""
    request = TaskRequest("a" * 4_000)
    assert demands(request).input_tokens == 1_000
    decided = planned(Route(named("m", "able")), {"m": replace(ABLE, context_window=window)}, request=request)
    assert ("m" in order(decided)) is is_asked


@pytest.mark.found("S-D3", "N-A6")
@pytest.mark.parametrize("request_", [TaskRequest("hi"), TaskRequest(audio=["a.wav"], task_type="audio_transcription")])
def test_a_model_that_does_nothing_but_transcribe_is_not_asked(request_: TaskRequest) -> None:
    """Its interface is not spoken: it would be asked to chat."""
    whisper = Capabilities(text=False, transcription=True)
    hears = Capabilities(audio=True)
    decided = planned(Route(named("whisper", "hears")), {"whisper": whisper, "hears": hears}, request=request_)
    assert order(decided) == ["hears"]
    assert decided.rejected[Target("p", "whisper")].startswith("it does nothing but transcribe, which is not supported")


@pytest.mark.found("S-D3", "N-A6")
@pytest.mark.parametrize(
    ("kind", "model", "is_asked"),
    [
        ("openai", "gpt-4o-transcribe", False),
        ("openai", "gpt-4o-mini-transcribe", False),
        ("openai", "gpt-transcribe", False),
        ("openai", "whisper-1", False),
        ("azure", "whisper-1", False),
        ("groq", "whisper-large-v3", False),
        ("mistral", "voxtral-mini-latest", False),
        ("openrouter", "openai/gpt-4o-transcribe", False),
        ("openai_compatible", "whisper-1", False),
        ("openai", "gpt-audio-mini", True),
        ("google", "gemini-3.8-flash", True),
        ("mistral", "voxtral-small-latest", True),
        ("openai_compatible", "a-model-of-ones-own", True),
    ],
)
def test_sounds_go_to_models_that_take_them_in_a_chat(kind: str, model: str, is_asked: bool) -> None:
    entry = {"kind": kind, "api_key": "test-key", "models": [model], "base_url": "http://127.0.0.1:1/v1"}
    corrections = {f"a/{model}": {"audio": True}} if "own" in model else {}
    switch = LLMSwitch({"providers": {"a": entry}, "catalog": corrections})
    heard = TaskRequest("What is said?", audio=[b"RIFF\x00\x00\x00\x00WAVE"], task_type="audio_transcription")
    if is_asked:
        assert switch.explain(heard).targets == (Target("a", model),)
    else:
        with pytest.raises(NoProviderAvailableError, match="does nothing but transcribe"):
            switch.explain(heard)


@pytest.mark.parametrize(
    ("request_", "wishes", "needed"),
    [
        (ASK, Wishes(), False),
        (ASK, Wishes(strategy="cost"), True),
        (ASK, Wishes(strategy="speed"), False),
        (ASK, Wishes(max_cost=1.0), True),
        (TaskRequest("word " * 4_000), Wishes(), True),
    ],
)
def test_prices_are_waited_for_only_where_they_matter(request_: TaskRequest, wishes: Wishes, needed: bool) -> None:
    policy = Policy({"p": ProviderSettings(name="p", kind="openai")}, Route(named("m")))
    assert needs_prices(request_, policy, wishes) is needed
