"""Sessions: conversations that are kept, stored, branched and gone on with."""

from __future__ import annotations

from .session import Session as Session
from .sqlite import SQLiteSessions as SQLiteSessions
from .stores import MemorySessions as MemorySessions
from .stores import SessionStore as SessionStore
from .turns import SessionTurn as SessionTurn
