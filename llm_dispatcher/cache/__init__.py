"""A cache that would rather pay than serve the answer to another question."""

from .likeness import Likeness, alike

__all__ = ["Likeness", "alike"]
