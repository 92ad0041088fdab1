"""Every invariant fails on a record that breaks it, and on no other: an invariant that cannot fail is worthless.

Each test takes a run in which everything holds, changes one thing in its record, and expects the invariant to see it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from llm_dispatcher._resilience import RetryBudgetSettings
from llm_dispatcher.events import (
    Failure,
    ReasoningDelta,
    StreamCancelled,
    StreamCompleted,
    StreamFailed,
    StreamInterrupted,
    StreamReset,
    StreamStarted,
    StreamSwitched,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallDropped,
    ToolResult,
)
from llm_dispatcher.exceptions import RequestTimeoutError
from tests.simulation.breaking import (
    ALPHA,
    CALLING,
    DRIPPED,
    ENTRY,
    NO_TOKENS,
    PROBED,
    REFUSED,
    TIMED_OUT,
    TOO_MANY,
    Change,
    both,
    change,
    change_the_session,
    copied,
    error,
    event,
    exchange_the_epilogue,
    fill_a_bucket,
    forget_a_result,
    forget_the_cancellation,
    in_switch,
    insert,
    leave_a_flight,
    leave_a_notice,
    leave_a_probe,
    leave_a_recording,
    leave_a_stream,
    leave_an_amount,
    leave_it_open,
    left_in_files,
    limited,
    longer_route,
    lose_a_recording,
    move_to_another_day,
    never_release,
    next_after_a_refusal,
    notices,
    other_settings,
    plan_of,
    policy,
    put,
    reading,
    release_in_use,
    release_now,
    reserve_money,
    resilience,
    response,
    row,
    rows,
    run_a_tool_again,
    served,
    shorter_route,
    shrink_the_cache,
    skipped,
    stand_in_line,
    swap,
    take_a_slot,
    tool_run,
    usage,
    without_results,
    without_the_first_turn,
)
from tests.simulation.good_runs import SCENARIOS, good_run
from tests.simulation.invariants import INVARIANTS, broken
from tests.simulation.promises import matching


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_invariant_holds_in_a_good_run(name: str) -> None:
    with good_run(name) as run:
        assert broken(run) == []


BREAKS: Final[tuple[tuple[str, str, Change], ...]] = (
    # the invariant, the scenario, the change
    ("every_reader_comes_to_an_end", "switches", change("text", outcome="open")),
    ("every_reader_comes_to_an_end", "switches", lambda run: setattr(run, "stuck", "for ever")),
    ("errors_are_typed", "failures", change("text", error=RuntimeError("bare"))),
    ("errors_hold_typed_failures", "failures", error("text", failures=(OSError(),))),
    ("a_cancelled_reader_gets_its_cancellation", "switches", change("cancelled", error=ValueError())),
    ("a_cancelled_reader_gets_its_cancellation", "switches", change("text", outcome="cancelled")),
    ("a_cancelled_reader_gets_its_cancellation", "switches", change("text", cancelled_at=1.0)),
    ("cancellations_of_ours_are_taken_back", "switches", change("text", cancellations=1)),
    (
        "only_a_closed_switch_ends_a_stream",
        "failures",
        change("text", error=RequestTimeoutError("the switch was closed")),
    ),
    ("only_a_failure_has_an_error", "switches", change("text", error=ValueError())),
    ("only_a_failure_has_an_error", "switches", response("left", error=ValueError())),
    ("the_last_event_tells_the_error", "failures", event("text", StreamFailed, failure=Failure("X", "y"))),
    ("the_last_event_tells_the_error", "failures", response("text", error=ValueError())),
    ("a_reader_that_left_gets_nothing_more", "switches", lambda run: reading(run, "left").watched.pop()),
    ("a_reader_that_left_gets_nothing_more", "switches", response("left", finish_reason="stop")),
    ("success_has_terminal_evidence", "switches", served("text", -1, put(finished=False))),
    ("success_has_terminal_evidence", "cache", served("first", -1, put(finished=False))),
    ("a_stream_ends_once", "switches", lambda run: reading(run, "text").watched.append(StreamCancelled(sequence=99))),
    ("a_stream_ends_once", "switches", change("text", outcome="failed")),
    ("events_are_in_legal_order", "switches", swap("text", "watched")),
    ("a_readers_events_are_in_legal_order", "switches", swap("events", "events")),
    ("a_readers_events_are_in_legal_order", "switches", swap("left", "events")),
    ("numbers_have_no_gap", "switches", event("text", TextDelta, sequence=77)),
    ("numbers_have_no_gap", "switches", event("events", TextDelta, events="events", sequence=77)),
    ("text_is_counted_from_0", "switches", event("text", TextDelta, index=77)),
    ("callbacks_follow_the_events", "switches", lambda run: reading(run, "text").callbacks.pop(3)),
    ("a_body_calls_back_once_at_each_end", "switches", lambda run: reading(run, "body").callbacks.append("on_error")),
    ("a_body_calls_back_once_at_each_end", "switches", lambda run: reading(run, "body").callbacks.pop(0)),
    ("progress_never_goes_back", "switches", lambda run: reading(run, "events").progress.insert(3, 0.0)),
    ("progress_never_goes_back", "switches", lambda run: reading(run, "events").progress.pop()),
    ("progress_never_goes_back", "switches", lambda run: reading(run, "events").progress.append(100.0)),
    ("a_complete_answer_is_the_whole_answer", "switches", change("text", text="Curlew20")),
    ("an_incomplete_answer_is_its_beginning", "failures", change("text", text="no")),
    ("an_incomplete_answer_is_its_beginning", "switches", event("left", TextDelta, text="no")),
    ("an_error_holds_the_delivered_text", "failures", error("text", partial="no")),
    ("an_error_holds_the_delivered_text", "failures", change("text", error=RequestTimeoutError("late"))),
    ("every_view_shows_the_same_text", "switches", response("text", text="no")),
    ("every_view_shows_the_same_text", "switches", change("events", text="no")),
    ("every_view_shows_the_same_text", "switches", event("text", StreamCompleted, text="no")),
    ("a_reader_lacks_at_most_the_last_event", "switches", lambda run: reading(run, "events").events.pop()),
    ("a_reader_lacks_at_most_the_last_event", "switches", change("cancelled", text="")),
    ("nothing_is_shown_to_a_reader_of_the_whole", "failures", change("await", text="some")),
    ("attempts_add_up_to_the_text", "switches", row("text", 0, delivered=1)),
    ("attempts_add_up_to_the_text", "switches", row("text", 1, number=7)),
    ("attempts_add_up_to_the_text", "switches", rows("text", lambda each: each[:-1])),
    ("attempts_add_up_to_the_text", "killed", plan_of("stays", request={"namespace": "red"})),
    ("a_vendors_text_is_cut_only_at_its_head", "switches", served("text", -1, lambda each: each.pieces.pop(-4))),
    ("a_vendors_text_is_cut_only_at_its_head", "switches", row("text", 1, trimmed="no")),
    ("interruptions_count_the_delivered_text", "switches", event("text", StreamInterrupted, delivered=1)),
    ("only_readers_that_can_discard_get_a_reset", "switches", insert("text", StreamReset(), StreamStarted, 1)),
    ("the_seam_is_told", "switches", event("text", StreamSwitched, seam="restart")),
    ("the_seam_is_told", "switches", event("text", StreamSwitched, trimmed="no")),
    (
        "a_whole_call_is_shown_with_its_answer",
        "switches",
        insert("text", ToolCall("1", "f", {}, "{}"), StreamInterrupted),
    ),
    (
        "a_run_is_read_on_as_if_nothing_had_broken",
        "runs",
        served("events", 0, lambda each: each.pieces.append(ReasoningDelta("Hm."))),
    ),
    ("a_run_is_read_on_while_it_can_be", "runs", served("events", 1, put(run=None))),
    ("every_run_that_is_left_is_cancelled", "runs", forget_the_cancellation),
    ("nothing_unproven_is_shown", "switches", row("text", 1, rung="anchored", proof=None)),
    ("nothing_unproven_is_shown", "switches", row("text", 1, proof="unproven")),
    ("nothing_of_our_request_is_shown", "switches", change("text", text="Curlew20 >>> birch1")),
    ("each_attempt_names_its_rung", "switches", row("text", 1, rung=None)),
    ("each_attempt_names_its_rung", "switches", row("text", 0, rung="anchored")),
    ("each_attempt_names_its_rung", "switches", event("text", StreamStarted, at=1, rung="exact")),
    (
        "dropped_calls_are_those_that_never_complete",
        "switches",
        insert("text", ToolCallDropped("1", "f"), StreamSwitched),
    ),
    (
        "dropped_calls_are_those_that_never_complete",
        "switches",
        insert("text", ToolCallDelta("1", "f", "{"), StreamInterrupted),
    ),
    ("a_refused_open_turn_is_remembered", "uncertain", row("second", 1, rung="prefill")),
    ("refused_token_ids_cost_no_attempt", "tokens", row("text", 1, failure=NO_TOKENS)),
    ("refused_token_ids_cost_no_attempt", "tokens", row("text", 0, rung="exact")),
    ("each_model_of_a_handover_has_its_row", "handovers", usage("text", 0, output_tokens=500)),
    ("each_model_of_a_handover_has_its_row", "handovers", row("text", 1, proof=None)),
    ("each_request_has_one_row", "handovers", rows("text", lambda each: each[1:])),
    ("a_refusal_leads_on", "refusals", policy(next_after_a_refusal)),
    (
        "a_silent_vendor_leaves_time_for_others",
        "timeout",
        both(policy(longer_route), served("waits", -1, lambda each: each.waits.append(9.0))),
    ),
    ("the_flow_clock_blames_only_a_slow_vendor", "switches", row("text", 0, failure=DRIPPED)),
    ("a_limit_leaves_room_for_the_whole_answer", "max_tokens", change("short", text="Curlew20")),
    ("no_tool_runs_twice_for_one_call", "tools", run_a_tool_again),
    ("no_tool_runs_on_half_arguments", "tools", tool_run(argument="wig")),
    ("a_tool_runs_after_its_whole_turn", "tools", tool_run(began_at=-1.0)),
    ("every_call_in_a_history_has_its_result", "tools", served("text", -1, without_results)),
    ("every_call_in_a_history_has_its_result", "tools", tool_run(returned="no")),
    ("every_call_in_a_history_has_its_result", "tools", response("text", messages=(CALLING,))),
    ("every_result_is_that_of_its_call", "tools", event("text", ToolResult, result="no")),
    ("every_result_is_that_of_its_call", "tools", insert("text", ToolResult("1", "f", "no"), ToolResult)),
    ("a_complete_answer_has_run_its_tools", "tools", forget_a_result),
    (
        "a_later_turn_goes_on_where_it_was",
        "tools",
        both(served("text", -1, put(target=ALPHA)), row("text", -1, target=ALPHA)),
    ),
    ("every_session_is_whole_at_the_end", "sessions", change_the_session(lambda messages: (CALLING, *messages))),
    ("every_session_is_whole_at_the_end", "sessions", change_the_session(lambda messages: messages[1:])),
    ("a_complete_turn_is_in_its_session_once", "sessions", change_the_session(lambda messages: messages[2:])),
    ("a_complete_turn_is_in_its_session_once", "sessions", change_the_session(lambda messages: messages * 2)),
    ("a_complete_turn_is_in_its_session_once", "sessions", change_the_session(lambda messages: messages[::-1])),
    ("a_turn_knows_the_turns_before_it", "sessions", served("second", 0, without_the_first_turn)),
    ("the_attempts_at_a_run_cost_what_it_cost", "runs", usage("events", -1, output_tokens=5_000)),
    ("targets_are_tried_in_turn", "runs", both(*[row("events", at, rung=None) for at in (0, 1)])),
    ("each_request_has_one_row", "switches", rows("text", lambda each: each[1:])),
    ("each_request_has_one_row", "switches", rows("text", lambda each: [*each, each[-1]])),
    ("each_request_has_one_row", "killed", plan_of("stays", request={"namespace": "red"})),
    ("each_request_has_one_row", "killed", served("leaves", 0, put(ended_at=1.0))),
    (
        "each_request_has_one_row",
        "killed",
        both(served("slow", 0, put(ended_at=1.0)), change("slow", last_asked_at=2.0)),
    ),
    ("each_request_has_one_row", "killed", lambda run: setattr(run.processes[0], "was_killed", False)),
    ("a_row_tells_what_its_vendor_reported", "switches", usage("text", -1, output_tokens=1)),
    ("a_row_tells_what_its_vendor_reported", "switches", usage("text", -1, source="estimated")),
    ("a_rows_outcome_is_what_its_vendor_did", "switches", served("text", 0, put(finished=True))),
    ("a_row_tells_what_its_vendor_reported", "retries", usage("r0", 0, input_tokens=1)),
    ("a_row_costs_what_its_tokens_cost", "switches", usage("text", -1, cost=1.0)),
    ("a_rows_outcome_is_what_its_vendor_did", "switches", row("text", 0, failure=None)),
    ("a_rows_outcome_is_what_its_vendor_did", "switches", served("text", -1, put(finished=False))),
    ("a_response_costs_what_its_rows_cost", "switches", usage("text", 0, cost=1.0)),
    ("a_response_costs_what_its_rows_cost", "switches", usage("text", 0, output_tokens=500)),
    ("a_response_costs_what_its_rows_cost", "cache", copied("repeats", "usage", of="first")),
    ("a_free_answer_has_no_rows", "cache", copied("joins", "attempts", of="first")),
    ("a_free_answer_has_no_rows", "cache", response("joins", cached=False)),
    ("an_error_costs_what_its_rows_cost", "failures", usage("text", 0, output_tokens=500)),
    ("budgets_count_what_the_ledgers_say", "switches", usage("text", 0, cost=1.0)),
    ("files_hold_what_was_spent", "files", left_in_files(1, {})),
    ("files_hold_what_was_spent", "files", left_in_files(0, {("", "2025-12-01"): 9.0})),
    ("each_day_has_what_was_spent_on_it", "switches", in_switch(move_to_another_day)),
    ("spent_tells_todays_amounts", "switches", lambda run: run.last.spent.update({"": {"daily": 7.0}})),
    ("health_counts_each_attempt_once", "switches", lambda run: run.last.health.popitem()),
    ("health_counts_each_attempt_once", "switches", row("text", 0, outcome="cancelled")),
    ("no_task_or_timer_is_left", "switches", lambda run: run.last.left.append("a task")),
    ("nothing_went_wrong_unseen", "switches", lambda run: run.problems.append("an exception")),
    ("every_vendors_stream_is_closed", "switches", served("text", 0, put(ended_at=None))),
    ("a_vendors_stream_ends_with_its_reader", "switches", served("text", 0, put(ended_at=1e9))),
    ("readers_that_ended_hold_nothing", "limits", lambda run: run.last.held.update(slots={"alpha": 1})),
    ("no_more_is_released_than_was_reserved", "limits", lambda run: run.last.released_in_excess.append("$1")),
    ("every_slot_is_given_back", "limits", in_switch(take_a_slot)),
    ("every_slot_is_given_back", "limits", in_switch(stand_in_line)),
    ("every_reservation_is_released", "switches", in_switch(reserve_money)),
    ("every_probe_is_over", "switches", in_switch(leave_a_probe)),
    ("every_probe_is_over", "switches", in_switch(leave_a_notice)),
    ("every_stream_is_closed", "switches", in_switch(leave_a_stream)),
    ("every_flight_has_landed", "cache", in_switch(leave_a_flight)),
    ("buckets_hold_no_more_than_fits", "limits", in_switch(fill_a_bucket)),
    ("everything_is_written", "files", in_switch(leave_an_amount)),
    ("everything_is_written", "files", in_switch(leave_a_recording)),
    ("a_stream_ends_by_its_deadline", "switches", change("text", ended_at=1e6)),
    ("no_deadline_is_early", "failures", change("text", error=RequestTimeoutError("late"))),
    ("no_wait_is_longer_than_its_clock", "switches", served("text", 0, put(silence=31.0))),
    ("a_clock_blames_only_a_silent_vendor", "switches", row("text", 0, failure=TIMED_OUT)),
    ("no_request_is_sent_after_the_deadline", "switches", served("text", 1, put(asked_at=1e6))),
    ("a_vendors_wait_is_honoured", "retries", row("r0", 0, failure=TOO_MANY)),
    ("a_closed_limit_keeps_everybody_away", "retries", row("r0", 0, failure=TOO_MANY)),
    (
        "a_retry_is_refused_only_if_the_budget_is_spent",
        "retries",
        skipped("not asked: the retry budget of alpha is spent"),
    ),
    ("retries_stay_within_their_budget", "retries", resilience(retry_budget=RetryBudgetSettings(0.0, 0))),
    ("an_outage_is_not_made_worse", "retries", resilience(retry_budget=RetryBudgetSettings(0.0, 0))),
    ("targets_are_tried_in_turn", "switches", rows("text", lambda each: [*each, each[0]])),
    ("targets_are_tried_in_turn", "retries", resilience(max_retries=0)),
    ("targets_are_tried_in_turn", "switches", resilience(fallback_enabled=False)),
    (
        "what_no_other_target_helps_ends_at_once",
        "switches",
        row("text", 0, failure=REFUSED),
    ),
    ("what_no_other_target_helps_ends_at_once", "switches", resilience(on_break="raise")),
    ("streams_at_once_stay_within_their_limit", "limits", limited(concurrent_streams=2)),
    ("requests_a_minute_stay_within_their_limit", "limits", limited(requests_per_minute=2)),
    ("an_open_breaker_keeps_everybody_away", "retries", notices((1.0, "open"), (3.5, "half_open"))),
    ("a_breaker_opens_only_after_failures", "retries", both(PROBED, notices((-99.0, "open")))),
    ("a_breaker_opens_only_after_failures", "switches", notices((-99.0, "half_open"), (-99.0, "open"))),
    ("an_open_breaker_stays_so_for_its_cooldown", "retries", notices((1.0, "open"), (1.5, "half_open"))),
    ("an_open_breaker_stays_so_for_its_cooldown", "retries", notices((1.0, "open"), (99.0, "closed"))),
    (
        "a_half_open_breaker_admits_few",
        "limits",
        both(PROBED, notices((0.0, "half_open"), (5.0, "closed"))),
    ),
    ("a_breaker_is_that_of_its_route", "retries", skipped("not asked: its breaker is open")),
    ("a_healthy_target_is_asked_again", "switches", lambda run: setattr(run.epilogue[0], "outcome", "failed")),
    (
        "a_healthy_target_is_asked_again",
        "switches",
        exchange_the_epilogue,
    ),
    ("an_answer_closes_the_breaker", "switches", in_switch(leave_it_open)),
    ("a_free_answer_was_paid_by_another_reader", "cache", plan_of("first", request={"namespace": "red"})),
    ("a_free_answer_was_paid_by_another_reader", "cache", change("first", question="Who is Ann?")),
    ("a_free_answer_was_paid_by_another_reader", "cache", plan_of("joins", options={"raw": True})),
    ("a_free_answer_was_paid_by_another_reader", "cache", change("repeats", began_at=60.0)),
    ("an_answer_comes_from_where_it_may", "cache", plan_of("first", request={"model": "bravo/small"})),
    ("an_answer_comes_from_where_it_may", "cache", plan_of("first", request={"providers": ["bravo"]})),
    ("a_free_answer_is_marked", "switches", event("text", StreamStarted, cached=True)),
    ("recordings_are_whole", "files", lambda run: run.last.recordings.append((ENTRY, [StreamCancelled()]))),
    ("recordings_are_whole", "files", lambda run: run.last.recordings[0][1].pop(0)),
    ("index_and_store_are_the_same", "cache", in_switch(lose_a_recording)),
    ("a_cache_stays_within_its_size", "cache", in_switch(shrink_the_cache)),
    ("a_stream_keeps_its_configuration", "switches", policy(other_settings)),
    (
        "a_stream_keeps_its_configuration",
        "switches",
        policy(shorter_route),
    ),
    ("an_ordered_route_is_asked_in_order", "switches", rows("text", lambda each: each[::-1])),
    ("dropped_providers_are_released", "reload", never_release),
    ("dropped_providers_are_released", "switches", release_now),
    ("a_provider_in_use_is_not_released", "switches", release_in_use),
)


FIRST_BREAKS = {name: number for number, (name, _, _) in reversed([*enumerate(BREAKS)])}
"""`make test` breaks each invariant in one way, and `make test-all` in all."""


@pytest.mark.parametrize(
    ("name", "scenario", "change"),
    [
        pytest.param(*each, id=f"{number} {each[0]}", marks=[] if FIRST_BREAKS[each[0]] == number else pytest.mark.slow)
        for number, each in enumerate(BREAKS)
    ],
)
def test_an_invariant_sees_what_breaks_it(name: str, scenario: str, change: Change) -> None:
    invariant = next(each for each in INVARIANTS if each.__name__ == name)
    matching.forget()
    with good_run(scenario) as run:
        change(run)
        with pytest.raises(AssertionError, match=r"expected .*; found"):
            invariant(run)


def test_each_invariant_has_a_sentence_and_a_test_that_breaks_it() -> None:
    names = [each.__name__ for each in INVARIANTS]
    assert len(set(names)) == len(names)
    assert all(each.__doc__ and each.__doc__.rstrip().endswith(".") for each in INVARIANTS)
    assert set(names) - {name for name, _, _ in BREAKS} == set()


def test_the_page_about_the_simulation_shows_the_sentences_of_invariants() -> None:
    page = (Path(__file__).parents[2] / "docs" / "simulation.md").read_text()
    shown = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", page, re.MULTILINE))
    sentences = {each.__name__: " ".join((each.__doc__ or "").split()) for each in INVARIANTS}
    assert shown
    assert shown == {name: sentences[name] for name in shown}
