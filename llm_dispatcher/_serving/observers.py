"""The observers of a switch: the log, and the application's own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .._log import write
from ..notices import Notice
from ..streaming._guard import Guarded
from ..streaming._observe import Observer
from .settings import check_function


class Log(Observer):
    """Writes notices to the logger `llm_dispatcher`."""

    def notice(self, notice: Notice) -> None:
        write(notice)


class Observers:
    """All observers of one switch; calling it gives each of them a notice.

    It holds no reference to the switch, so that a switch that is no longer used is freed at once.
    """

    def __init__(self, observers: Sequence[Observer]) -> None:
        if isinstance(observers, Observer) or not isinstance(observers, Iterable):
            raise TypeError(
                f"observers is a list of observers, got {type(observers).__name__}; write: observers=[MyObserver()]"
            )
        for observer in observers:
            if not isinstance(observer, Observer):
                raise TypeError(
                    f"an observer is a streaming.Observer, got {type(observer).__name__}; "
                    "write: class MyObserver(Observer): …, and pass an instance"
                )
            for name in ("begin", "notice"):
                check_function(f"{type(observer).__name__}.{name}", getattr(observer, name))
        self.own: tuple[Observer, ...] = tuple(map(Guarded, observers))
        """The application's observers, guarded: an error in one does not end a stream."""

    def __call__(self, notice: Notice) -> None:
        for observer in (LOG, *self.own):
            observer.notice(notice)


LOG = Log()
