"""A decorated async generator becomes a live stream from whichever model is best and healthy for its task,
and the stream keeps going when that model does not.

    from llm_dispatcher import TaskType, llm_stream

    @llm_stream(task_type=TaskType.TEXT_GENERATION)
    async def story(topic: str) -> str:
        return f"Tell a short story about {topic}."

    async for chunk in story("a lighthouse"):
        print(chunk, end="")
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._arguments import Local as Local
    from ._decorators import llm_stream as llm_stream
    from ._decorators import llm_stream_with_metadata as llm_stream_with_metadata
    from ._decorators import settings_of as settings_of
    from ._llm import LLM as LLM
    from ._media import encode_audio as encode_audio
    from ._media import encode_image as encode_image
    from ._serving.current import get_global_switch as get_global_switch
    from ._serving.current import init as init
    from ._serving.current import set_global_switch as set_global_switch
    from ._serving.current import use_switch as use_switch
    from ._serving.switch import LLMSwitch as LLMSwitch
    from ._sessions import MemorySessions as MemorySessions
    from ._sessions import Session as Session
    from ._sessions import SessionStore as SessionStore
    from ._sessions import SessionTurn as SessionTurn
    from ._sessions import SQLiteSessions as SQLiteSessions
    from ._stream import LLMStream as LLMStream
    from ._structured import ObjectStream as ObjectStream
    from ._tools import Deny as Deny
    from ._tools import RunContext as RunContext
    from .cache import StreamingCache as StreamingCache
    from .events import Attempt as Attempt
    from .events import TaskResponse as TaskResponse
    from .events import Usage as Usage
    from .exceptions import AllProvidersFailedError as AllProvidersFailedError
    from .exceptions import BudgetExceededError as BudgetExceededError
    from .exceptions import ConfigurationError as ConfigurationError
    from .exceptions import InvalidRequestError as InvalidRequestError
    from .exceptions import LLMDispatcherError as LLMDispatcherError
    from .exceptions import ProviderError as ProviderError
    from .exceptions import RequestTimeoutError as RequestTimeoutError
    from .exceptions import StreamingError as StreamingError
    from .streaming import ChunkMetadata as ChunkMetadata
    from .streaming import ProgressTracker as ProgressTracker
    from .streaming import StreamingCallbacks as StreamingCallbacks
    from .streaming import StreamMetadata as StreamMetadata
    from .tasks import CachePoint as CachePoint
    from .tasks import Message as Message
    from .tasks import Target as Target
    from .tasks import TaskRequest as TaskRequest
    from .tasks import TaskType as TaskType
    from .tasks import Tool as Tool

_HOMES = {
    "Attempt": "events",
    "CachePoint": "tasks",
    "ChunkMetadata": "streaming",
    "Deny": "_tools",
    "LLM": "_llm",
    "AllProvidersFailedError": "exceptions",
    "BudgetExceededError": "exceptions",
    "ConfigurationError": "exceptions",
    "InvalidRequestError": "exceptions",
    "LLMDispatcherError": "exceptions",
    "ProviderError": "exceptions",
    "RequestTimeoutError": "exceptions",
    "StreamingError": "exceptions",
    "LLMStream": "_stream",
    "LLMSwitch": "_serving.switch",
    "Local": "_arguments",
    "MemorySessions": "_sessions",
    "Message": "tasks",
    "ObjectStream": "_structured",
    "ProgressTracker": "streaming",
    "RunContext": "_tools",
    "SQLiteSessions": "_sessions",
    "Session": "_sessions",
    "SessionStore": "_sessions",
    "SessionTurn": "_sessions",
    "StreamingCache": "cache",
    "StreamMetadata": "streaming",
    "StreamingCallbacks": "streaming",
    "Target": "tasks",
    "TaskRequest": "tasks",
    "TaskResponse": "events",
    "TaskType": "tasks",
    "Tool": "tasks",
    "Usage": "events",
    "encode_audio": "_media",
    "encode_image": "_media",
    "get_global_switch": "_serving.current",
    "init": "_serving.current",
    "llm_stream": "_decorators",
    "llm_stream_with_metadata": "_decorators",
    "set_global_switch": "_serving.current",
    "settings_of": "_decorators",
    "use_switch": "_serving.current",
}
"""Each public name and its module, which is imported when the name is first asked for."""

_MODULES = ("cache", "events", "exceptions", "notices", "provider", "streaming", "tasks", "testing")
"""The public modules, which are imported likewise."""

__all__ = [*_HOMES]  # noqa: PLE0604 - one list of names, not two  # pyright: ignore[reportUnsupportedDunderAll]
__version__ = "0.1.0"
"""The only place of the version: the build reads it here."""


logging.getLogger(__name__).addHandler(logging.NullHandler())  # the application decides whether log lines are shown


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f".{name}", __name__)
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*_HOMES, *_MODULES, *(name for name in globals() if name.startswith("__"))])
