"""The invariants: what must be true after every run. Each is a function that raises an `AssertionError` if it is not.

The functions are in `promises/`, by subject. Each has a sentence that says what it promises, and its error says who
broke it, what was expected and what was found.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from tests.simulation.promises import (
    breakers,
    caching,
    clocks,
    endings,
    handovers,
    hosts,
    ladder,
    leftovers,
    load,
    matching,
    money,
    order,
    reloads,
    sessions,
    texts,
    tools,
)
from tests.simulation.record import Run

Invariant: TypeAlias = Callable[[Run], None]

INVARIANTS: Final[tuple[Invariant, ...]] = (
    # what comes to an end, and how
    endings.every_reader_comes_to_an_end,
    endings.errors_are_typed,
    endings.errors_hold_typed_failures,
    endings.a_cancelled_reader_gets_its_cancellation,
    endings.cancellations_of_ours_are_taken_back,
    endings.only_a_closed_switch_ends_a_stream,
    endings.only_a_failure_has_an_error,
    endings.the_last_event_tells_the_error,
    endings.a_reader_that_left_gets_nothing_more,
    endings.success_has_terminal_evidence,
    # events, callbacks, progress
    order.a_stream_ends_once,
    order.events_are_in_legal_order,
    order.a_readers_events_are_in_legal_order,
    order.numbers_have_no_gap,
    order.text_is_counted_from_0,
    order.callbacks_follow_the_events,
    order.a_body_calls_back_once_at_each_end,
    order.progress_never_goes_back,
    # text
    texts.a_complete_answer_is_the_whole_answer,
    texts.an_incomplete_answer_is_its_beginning,
    texts.an_error_holds_the_delivered_text,
    texts.every_view_shows_the_same_text,
    texts.a_reader_lacks_at_most_the_last_event,
    texts.nothing_is_shown_to_a_reader_of_the_whole,
    texts.attempts_add_up_to_the_text,
    texts.a_vendors_text_is_cut_only_at_its_head,
    texts.interruptions_count_the_delivered_text,
    texts.only_readers_that_can_discard_get_a_reset,
    texts.the_seam_is_told,
    texts.a_whole_call_is_shown_with_its_answer,
    # the ladder
    ladder.a_run_is_read_on_as_if_nothing_had_broken,
    ladder.a_run_is_read_on_while_it_can_be,
    ladder.every_run_that_is_left_is_cancelled,
    ladder.nothing_unproven_is_shown,
    ladder.nothing_of_our_request_is_shown,
    ladder.each_attempt_names_its_rung,
    ladder.dropped_calls_are_those_that_never_complete,
    hosts.a_refused_open_turn_is_remembered,
    hosts.refused_token_ids_cost_no_attempt,
    handovers.each_model_of_a_handover_has_its_row,
    handovers.a_refusal_leads_on,
    ladder.a_silent_vendor_leaves_time_for_others,
    ladder.the_flow_clock_blames_only_a_slow_vendor,
    ladder.a_limit_leaves_room_for_the_whole_answer,
    # tools
    tools.no_tool_runs_twice_for_one_call,
    tools.no_tool_runs_on_half_arguments,
    tools.a_tool_runs_after_its_whole_turn,
    tools.every_call_in_a_history_has_its_result,
    tools.every_result_is_that_of_its_call,
    tools.a_complete_answer_has_run_its_tools,
    tools.a_later_turn_goes_on_where_it_was,
    # sessions
    sessions.every_session_is_whole_at_the_end,
    sessions.a_complete_turn_is_in_its_session_once,
    sessions.a_turn_knows_the_turns_before_it,
    # money
    money.each_request_has_one_row,
    money.a_row_tells_what_its_vendor_reported,
    money.the_attempts_at_a_run_cost_what_it_cost,
    money.a_row_costs_what_its_tokens_cost,
    money.a_rows_outcome_is_what_its_vendor_did,
    money.a_response_costs_what_its_rows_cost,
    money.a_free_answer_has_no_rows,
    money.an_error_costs_what_its_rows_cost,
    money.budgets_count_what_the_ledgers_say,
    money.files_hold_what_was_spent,
    money.each_day_has_what_was_spent_on_it,
    money.spent_tells_todays_amounts,
    money.health_counts_each_attempt_once,
    # what is left
    leftovers.no_task_or_timer_is_left,
    leftovers.nothing_went_wrong_unseen,
    leftovers.every_vendors_stream_is_closed,
    leftovers.a_vendors_stream_ends_with_its_reader,
    leftovers.readers_that_ended_hold_nothing,
    leftovers.every_slot_is_given_back,
    leftovers.every_reservation_is_released,
    leftovers.no_more_is_released_than_was_reserved,
    leftovers.every_probe_is_over,
    leftovers.every_stream_is_closed,
    leftovers.every_flight_has_landed,
    leftovers.buckets_hold_no_more_than_fits,
    leftovers.everything_is_written,
    # time
    clocks.a_stream_ends_by_its_deadline,
    clocks.no_deadline_is_early,
    clocks.no_wait_is_longer_than_its_clock,
    clocks.a_clock_blames_only_a_silent_vendor,
    clocks.no_request_is_sent_after_the_deadline,
    clocks.a_vendors_wait_is_honoured,
    clocks.a_closed_limit_keeps_everybody_away,
    # load
    load.retries_stay_within_their_budget,
    load.a_retry_is_refused_only_if_the_budget_is_spent,
    load.an_outage_is_not_made_worse,
    load.targets_are_tried_in_turn,
    load.what_no_other_target_helps_ends_at_once,
    load.streams_at_once_stay_within_their_limit,
    load.requests_a_minute_stay_within_their_limit,
    breakers.an_open_breaker_keeps_everybody_away,
    breakers.a_breaker_opens_only_after_failures,
    breakers.an_open_breaker_stays_so_for_its_cooldown,
    breakers.a_half_open_breaker_admits_few,
    breakers.a_breaker_is_that_of_its_route,
    load.a_healthy_target_is_asked_again,
    load.an_answer_closes_the_breaker,
    # the cache
    caching.a_free_answer_was_paid_by_another_reader,
    caching.an_answer_comes_from_where_it_may,
    caching.a_free_answer_is_marked,
    caching.recordings_are_whole,
    caching.index_and_store_are_the_same,
    caching.a_cache_stays_within_its_size,
    # reloads
    reloads.a_stream_keeps_its_configuration,
    reloads.an_ordered_route_is_asked_in_order,
    reloads.dropped_providers_are_released,
    reloads.a_provider_in_use_is_not_released,
)


def broken(run: Run) -> list[tuple[str, str]]:
    """The names of the invariants that do not hold, each with its message."""
    failures: list[tuple[str, str]] = []
    for invariant in INVARIANTS:
        try:
            invariant(run)
        except AssertionError as error:
            failures.append((invariant.__name__, str(error)))
    matching.forget()  # it would keep the run
    return failures
