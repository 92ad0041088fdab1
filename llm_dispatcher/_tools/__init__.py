"""Running tools: the functions that a model calls while it answers."""

from __future__ import annotations

from ._context import Deny as Deny
from ._context import RunContext as RunContext
from ._context import ToolRun as ToolRun
