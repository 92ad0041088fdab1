"""Time and randomness have one source, which a simulation can replace."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest

from llm_dispatcher import ProgressTracker, _clock
from llm_dispatcher._config.files import WatchedFile
from llm_dispatcher._dispatch.retrying import Retrying
from llm_dispatcher._resilience import Resilience
from llm_dispatcher._routing.health import Health
from llm_dispatcher.exceptions import ProviderRateLimitError
from llm_dispatcher.provider._rate_limit_headers import retry_after
from llm_dispatcher.streaming._account import Account

NEW_YEAR = datetime(2030, 1, 1, tzinfo=UTC)


class Still:
    """A source in which time passes only when a thread sleeps, and each random number is the same."""

    def __init__(self, at: float = 100.0, random: float = 0.25) -> None:
        self.at = at
        self._random = random

    def monotonic(self) -> float:
        return self.at

    def wall(self) -> float:
        return NEW_YEAR.timestamp() + self.at

    def random(self) -> float:
        return self._random

    def token_bytes(self, count: int, /) -> bytes:
        return bytes(range(0xA0, 0xA0 + count))

    def sleep(self, seconds: float, /) -> None:
        self.at += seconds


def test_each_function_asks_the_source_in_use() -> None:
    with _clock.use(Still()):
        _clock.sleep(2.5)
        assert _clock.monotonic() == 102.5
        assert _clock.wall() == NEW_YEAR.timestamp() + 102.5
        assert _clock.now() == datetime(2030, 1, 1, 0, 1, 42, 500_000, tzinfo=UTC)
        assert _clock.random() == 0.25
        assert _clock.uniform(10.0, 14.0) == 11.0
        assert _clock.token_bytes(2) == b"\xa0\xa1"
        assert [_clock.hex_id(digits) for digits in (1, 4, 5)] == ["a", "a0a1", "a0a1a"]


def test_the_source_before_comes_back_after_an_error_too() -> None:
    machine, outer = _clock.source(), Still(1.0)
    with _clock.use(outer):
        with pytest.raises(KeyError), _clock.use(Still(2.0)):
            assert _clock.monotonic() == 2.0
            raise KeyError
        assert _clock.source() is outer
    assert _clock.source() is machine


def test_the_source_holds_in_every_thread() -> None:
    seen: list[float] = []
    with _clock.use(Still(7.0)):
        thread = threading.Thread(target=lambda: seen.append(_clock.monotonic()))
        thread.start()
        thread.join()
    assert seen == [7.0]


def test_the_machine_gives_what_it_promises() -> None:
    assert _clock.monotonic() <= _clock.monotonic()
    assert _clock.now().utcoffset() is not None
    assert _clock.now().year >= 2025
    assert all(0 <= _clock.random() < 1 and 3 <= _clock.uniform(3, 5) <= 5 for _ in range(1000))
    assert len({_clock.token_bytes(16) for _ in range(100)}) == 100
    assert {len(_clock.hex_id(digits)) for digits in range(1, 30)} == set(range(1, 30))


def test_a_seeded_generator_does_not_depend_on_the_source() -> None:
    numbers = _clock.generator(3).random()
    with _clock.use(Still()):
        assert _clock.generator(3).random() == numbers


def test_objects_made_earlier_use_the_current_source() -> None:
    health, watched = Health(lambda target: Resilience()), WatchedFile(__file__)
    tracker = ProgressTracker()
    for made in (health, watched, tracker):
        assert made._clock is _clock.monotonic
    with _clock.use(Still(1e9)):
        watched.has_changed()
    assert watched._next_check == 1e9 + 1


def test_an_account_takes_the_source_in_which_its_stream_begins() -> None:
    source = Still()
    with _clock.use(source):
        account = Account()
        account.begin()
        source.sleep(3.0)
        assert account.started == datetime(2030, 1, 1, 0, 1, 40, tzinfo=UTC)
        assert account.elapsed == 3.0


def test_pauses_and_dates_of_vendors_follow_the_source() -> None:
    error = ProviderRateLimitError("slow down", retry_after=2.0)
    with _clock.use(Still(0.0, random=0.5)):
        assert Retrying(Resilience(backoff=1.0)).seconds_to_wait(error, 1, None) == 3.0
        assert retry_after({"retry-after": "Tue, 01 Jan 2030 00:00:30 GMT"}) == 30.0
