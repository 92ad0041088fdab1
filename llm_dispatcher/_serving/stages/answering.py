"""The innermost stage: it plans the request and runs the loop over the targets of the plan."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from ..._dispatch import Course, Job, attempts
from ..._policy import Wishes
from ..._routing import Admission, route_of
from ...events import Event
from ...exceptions import InvalidRequestError
from ...provider import BODY, Provider
from ...tasks import Target
from ..call import Call
from .metering import metered


async def answer(call: Call) -> AsyncGenerator[Event, None]:
    """Plan a request and open the loop for it. Nothing is sent before the first event is read."""
    runtime = call.runtime
    wishes = call.wishes
    await runtime.shared.knowledge.learn(call.request, runtime.policy, wishes)
    job, admission = _job(call, wishes)
    course = Course() if call.course is None else call.course
    events = attempts(job, course)
    if not admission.is_metered:
        return events
    return metered(events, admission, course.transcript, lambda: call.ledger.usage)


def _job(call: Call, wishes: Wishes) -> tuple[Job, Admission]:
    """The job for the loop: the plan, the settings in force, and the admission to the targets."""
    request, settings, runtime = call.request, call.settings, call.runtime
    policy, task_type = runtime.policy, request.task_type
    on_break = settings.on_break_in(policy, task_type)
    if on_break == "restart" and not call.shape.can_take_back:
        raise InvalidRequestError(
            "on_break='restart' takes back delivered text, which a reader of chunks cannot do: "
            "read .events(), or await the stream"
        )
    spent = sum(attempt.usage.cost or 0.0 for attempt in call.ledger)
    plan = runtime.plan(request, wishes, has_body=call.body is not None, load=False, spent=spent)
    admission = runtime.admission(request, plan, wishes, spent)
    latest = runtime.latest_first_token(request, plan, wishes)
    styles = runtime.styles
    body = None if call.body is None else call.body()

    def provider(target: Target) -> Provider:
        return body if body is not None and target.provider == BODY else runtime.providers[target.provider]

    job = Job(
        request=runtime.to_send(request),
        targets=plan.targets,
        provider=provider,
        style=styles.of,
        is_certain=styles.is_certain,
        takes_no_prefill=styles.takes_no_prefill,
        chunk_is_token=lambda target: runtime.catalog.capabilities(target, load=False).chunk_is_token,
        figures=() if plan.strategy == "ordered" else plan.figures,
        resilience=settings.over(policy.resilience_of(task_type, None), latest),
        overrides=lambda target: settings.over(policy.resilience_of(task_type, target), latest),
        ledger=call.ledger,
        admission=admission,
        on_break=on_break,
        reader_has_nothing=on_break == "continue" and call.shape.may_begin_again,
        on_refusal=route_of(request, policy, wishes).on_refusal,
        raw=settings.raw,
        open_streams=runtime.open_streams,
        deadline=call.deadline,
        price=runtime.price,
        notify=call.notify,
        retry_wait=runtime.shared.retry_wait,
        retry_stop=runtime.shared.retry_stop if settings.max_retries is None else None,
    )
    return job, admission
