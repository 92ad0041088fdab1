"""The background mode of a simulated OpenAI, asked over plain HTTP and read by the official client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
import openai
import pytest

from llm_dispatcher import _clock
from llm_dispatcher.testing import (
    Background,
    Cut,
    CutEach,
    HttpError,
    Reply,
    RunFails,
    RunIsLost,
    RunStalls,
    SimulatedVendor,
    script_from_json,
    script_to_json,
)

Start = Callable[..., SimulatedVendor]
TEXT = "One two three four."
KEPT = {"model": "m", "input": "x", "stream": True, "background": True}
FOREVER = 3600.0
"""A pace at which nothing more comes in a test, unless its clock is moved."""


class MovableClock(_clock.Machine):
    """This machine's clock, which a test can move forward."""

    def __init__(self) -> None:
        self.moved = 0.0

    def monotonic(self) -> float:
        return _clock.Machine.monotonic() + self.moved


@pytest.fixture
def clock() -> Any:
    source = MovableClock()
    with _clock.use(source):
        yield source


@asynccontextmanager
async def asked(vendor: SimulatedVendor, method: str, path: str, **body: Any) -> AsyncIterator[aiohttp.ClientResponse]:
    headers = {"authorization": "Bearer test-key"}
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"{vendor.base_url}/responses{path}", json=body or None, headers=headers) as answer,
    ):
        yield answer


async def events(answer: aiohttp.ClientResponse) -> list[dict[str, Any]]:
    """All events of an answer that came before it ended or broke."""
    data = b""
    try:
        async for chunk in answer.content.iter_any():
            data += chunk
    except aiohttp.ClientError:
        pass
    return [msgspec.json.decode(line[6:]) for line in data.split(b"\n") if line.startswith(b"data: ")]


async def read(vendor: SimulatedVendor, method: str = "POST", path: str = "") -> list[dict[str, Any]]:
    async with asked(vendor, method, path, **(KEPT if method == "POST" else {})) as answer:
        assert answer.status == 200
        return await events(answer)


async def error(vendor: SimulatedVendor, method: str, path: str, **body: Any) -> tuple[int, str]:
    async with asked(vendor, method, path, **body) as answer:
        return answer.status, (await answer.json())["error"]["message"]


def numbers(events: list[dict[str, Any]]) -> list[int]:
    return [event["sequence_number"] for event in events]


async def test_a_run_is_read_on_from_any_event(simulated_vendor: Start) -> None:
    vendor = simulated_vendor("openai-responses", TEXT)
    whole = await read(vendor)
    assert numbers(whole) == list(range(len(whole)))
    assert [each["type"] for each in whole[:3]] == ["response.created", "response.queued", "response.in_progress"]
    assert whole[0]["response"]["background"] is True
    for after in range(-1, len(whole)):
        path = f"/{whole[0]['response']['id']}?stream=true&starting_after={after}"
        assert await read(vendor, "GET", path) == whole[after + 1 :]
    assert await read(vendor, "GET", f"/{whole[0]['response']['id']}?stream=true") == whole
    assert vendor.runs[0].connections == len(whole) + 3


async def test_the_official_client_reads_a_run_on(simulated_vendor: Start) -> None:
    vendor = simulated_vendor("openai-responses", Reply(TEXT, fault=CutEach(4, times=1)))
    async with openai.AsyncOpenAI(api_key="test-key", base_url=vendor.base_url, max_retries=0) as client:
        stream = await client.responses.create(model="m", input="x", background=True, stream=True)
        last = -1
        with pytest.raises(openai.APIError):
            async for event in stream:
                last = event.sequence_number
        assert last == 3
        rest = await client.responses.retrieve(vendor.runs[0].id, stream=True, starting_after=last)
        assert [event.sequence_number async for event in rest][:1] == [4]
        assert (await client.responses.retrieve(vendor.runs[0].id)).status == "completed"


@pytest.mark.parametrize("fault", [CutEach(0), CutEach(2), CutEach(5), CutEach(2, times=1)])
async def test_a_cut_counts_the_events_of_each_connection(fault: CutEach, simulated_vendor: Start) -> None:
    vendor = simulated_vendor("openai-responses", Reply(TEXT, fault=fault))
    assert numbers(await read(vendor)) == list(range(fault.events))
    rest = await read(vendor, "GET", f"/{vendor.runs[0].id}?stream=true&starting_after={fault.events - 1}")
    length = fault.events if fault.times is None else len(vendor.runs[0].frames) - fault.events
    assert numbers(rest) == list(range(fault.events, fault.events + length))


async def test_another_fault_is_one_of_the_first_connection(simulated_vendor: Start) -> None:
    vendor = simulated_vendor("openai-responses", Reply(TEXT, fault=Cut(2)))
    assert len(await read(vendor)) < len(vendor.runs[0].frames)
    assert len(await read(vendor, "GET", f"/{vendor.runs[0].id}?stream=true")) == len(vendor.runs[0].frames)


async def test_a_run_goes_on_while_nobody_reads_it(simulated_vendor: Start, clock: MovableClock) -> None:
    vendor = simulated_vendor(
        "openai-responses", Reply(TEXT, pace=FOREVER, fault=Cut(1)), background=Background(1e6, 1e6)
    )
    first = await read(vendor)
    run = vendor.runs[0]
    assert (run.status, run.written) == ("in_progress", len(first))
    clock.moved = 2.5 * FOREVER
    assert (run.status, run.written) == ("in_progress", len(first) + 2)
    clock.moved = 4 * FOREVER
    assert run.status == "completed"
    rest = await read(vendor, "GET", f"/{run.id}?stream=true&starting_after={first[-1]['sequence_number']}")
    assert numbers(first + rest) == list(range(len(run.frames)))


async def test_a_run_can_be_streamed_for_five_minutes_and_asked_about_for_ten(
    simulated_vendor: Start, clock: MovableClock
) -> None:
    vendor = simulated_vendor("openai-responses", TEXT)
    await read(vendor)
    run = vendor.runs[0].id
    clock.moved = 299
    assert await read(vendor, "GET", f"/{run}?stream=true&starting_after=3")
    clock.moved = 300
    status, message = await error(vendor, "GET", f"/{run}?stream=true&starting_after=3")
    assert (status, message) == (
        400,
        "This response can no longer be streamed because it is more than 5 minutes old",
    )
    async with asked(vendor, "GET", f"/{run}") as answer:
        assert (await answer.json())["status"] == "completed"
    clock.moved = 600
    assert await error(vendor, "GET", f"/{run}") == (404, f"Response with id '{run}' not found.")


async def test_a_run_that_was_cancelled_writes_nothing_more(simulated_vendor: Start, clock: MovableClock) -> None:
    vendor = simulated_vendor("openai-responses", Reply(TEXT, pace=FOREVER, fault=Cut(1)))
    first = await read(vendor)
    run = vendor.runs[0]
    for _ in range(2):  # a second one changes nothing
        async with asked(vendor, "POST", f"/{run.id}/cancel") as answer:
            assert (await answer.json())["status"] == "cancelled"
    clock.moved = 200.0
    assert run.status == "cancelled"
    assert await read(vendor, "GET", f"/{run.id}?stream=true") == first


async def test_a_cancellation_ends_a_connection_that_is_open(simulated_vendor: Start) -> None:
    vendor = simulated_vendor("openai-responses", Reply(TEXT, pace=0.05))
    async with asked(vendor, "POST", "", **KEPT) as answer:
        async with asked(vendor, "POST", f"/{vendor.runs[0].id}/cancel") as cancelled:
            assert cancelled.status == 200
        assert len(await events(answer)) < len(vendor.runs[0].frames)
    assert await vendor.requests[0].until_over() == "served"


async def test_a_run_may_fail_stall_or_be_lost(simulated_vendor: Start) -> None:
    vendor = simulated_vendor("openai-responses", [Reply(TEXT, fault=RunFails(2)), Reply(TEXT, fault=RunIsLost(2))])
    whole = await read(vendor)
    assert whole[-1]["type"] == "response.failed" and numbers(whole) == list(range(len(whole)))
    assert vendor.runs[0].status == "failed"
    assert await read(vendor, "GET", f"/{vendor.runs[0].id}?stream=true&starting_after=4") == whole[5:]
    assert await read(vendor)
    status, _ = await error(vendor, "GET", f"/{vendor.runs[1].id}?stream=true")
    assert status == 404
    vendor.script = Reply(TEXT, fault=RunStalls(2))
    async with asked(vendor, "POST", "", **KEPT):
        assert vendor.runs[2].status == "in_progress"


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/resp_none?stream=true", 404, "Response with id 'resp_none' not found."),
        ("POST", "/resp_none/cancel", 404, "Response with id 'resp_none' not found."),
        ("POST", "/resp_sim_1/cancel", 400, "Cannot cancel a completed response."),
        (
            "GET",
            "/resp_sim_1?stream=true&starting_after=x",
            400,
            "Invalid value for 'starting_after': expected an integer.",
        ),
        ("DELETE", "/resp_sim_1", 405, "DELETE is not allowed here"),
    ],
)
async def test_what_cannot_be_done_with_a_run_is_refused(
    method: str, path: str, status: int, message: str, simulated_vendor: Start
) -> None:
    vendor = simulated_vendor("openai-responses", TEXT)
    await read(vendor)
    assert await error(vendor, method, path) == (status, message)


async def test_a_foreground_answer_cannot_be_read_on(simulated_vendor: Start) -> None:
    vendor = simulated_vendor("openai-responses", TEXT)
    async with asked(vendor, "POST", "", **{**KEPT, "background": False}) as answer:
        first = (await events(answer))[0]["response"]
    assert first["background"] is False and vendor.runs == []
    status, _ = await error(vendor, "GET", f"/{first['id']}?stream=true")
    assert status == 404


async def test_a_host_that_keeps_no_runs_ignores_the_parameter(simulated_vendor: Start) -> None:
    vendor = simulated_vendor("openai-responses", TEXT, host="llamacpp")
    assert (await read(vendor))[0]["response"]["background"] is False and vendor.runs == []
    assert (await error(vendor, "GET", "/resp_sim?stream=true"))[0] == 405


async def test_a_run_that_may_not_be_stored_is_refused(simulated_vendor: Start) -> None:
    vendor = simulated_vendor("openai-responses", TEXT)
    status, message = await error(vendor, "POST", "", **KEPT, store=False)
    assert (status, message) == (400, "Background mode requires 'store' to be true.")


async def test_readings_and_cancellations_fail_as_the_vendor_was_told(simulated_vendor: Start) -> None:
    background = Background(reads=(HttpError(503), None), cancel=HttpError(500, message="not now"))
    vendor = simulated_vendor("openai-responses", TEXT, background=background)
    await read(vendor)
    path = f"/{vendor.runs[0].id}"
    assert (await error(vendor, "GET", f"{path}?stream=true"))[0] == 503
    assert await read(vendor, "GET", f"{path}?stream=true")
    assert await error(vendor, "POST", f"{path}/cancel") == (500, "not now")


@pytest.mark.parametrize("fault", [CutEach(2), RunFails(1), RunStalls(1), RunIsLost(1)])
def test_a_fault_of_a_run_is_for_the_wire_that_has_runs(fault: Any) -> None:
    with pytest.raises(ValueError, match="is for a run in the background"):
        SimulatedVendor("openai-chat", Reply(TEXT, fault=fault))
    assert script_from_json(script_to_json(Reply(TEXT, fault=fault))) == Reply(TEXT, fault=fault)


async def test_a_fault_of_a_run_needs_a_run(simulated_vendor: Start) -> None:
    vendor = SimulatedVendor("openai-responses", Reply(TEXT, fault=CutEach(2)))
    with pytest.raises(
        ValueError, match="has to set background: true, as the option background of a provider's entry does"
    ):
        async with vendor:
            assert (await error(vendor, "POST", "", model="m", input="x", stream=True))[0] == 500


@pytest.mark.parametrize("make", [RunFails, RunStalls, RunIsLost])
def test_a_fault_of_a_run_past_its_end_is_refused(make: Any) -> None:
    with pytest.raises(ValueError, match="is past the end"):
        SimulatedVendor("openai-responses", Reply("One.", fault=make(2)))
