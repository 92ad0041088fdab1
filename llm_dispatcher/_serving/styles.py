"""`Styles`: how each target continues a broken answer, as far as it is known.

The table of vendors knows most hosts. A host that it does not know is first asked to continue an open assistant turn.
If it refuses one, that is remembered by the identity of the target (`Runtime.models`): an entry with another address is
another host. A switch may be used from several threads; each operation here is a single operation of a dictionary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from .._catalog import Capabilities
from .._policy import Continues
from ..tasks import Target

MOST_REMEMBERED: Final = 4_096
"""A request may name any model, so past this number the memory is cleared."""


class Styles:
    """The styles of the targets of a policy. `refusals` belongs to the switch and outlives a reload."""

    def __init__(
        self,
        capabilities: Callable[[Target], Capabilities],
        host: Callable[[Target], str],
        refusals: dict[str, None],
    ) -> None:
        self._capabilities = capabilities
        self._host = host
        self._refusals = refusals

    def of(self, target: Target) -> Continues:
        """How the target continues: the way that is known, or that is to be tried first."""
        can = self._capabilities(target)
        if can.may_prefill and can.continues == "anchored" and self._host(target) not in self._refusals:
            return "prefill"
        return can.continues

    def is_certain(self, target: Target) -> bool:
        """Whether the target is known to continue in that way."""
        can = self._capabilities(target)
        return can.continues == "prefill" or not can.may_prefill

    def takes_no_prefill(self, target: Target) -> None:
        """The target has refused an open assistant turn."""
        if len(self._refusals) >= MOST_REMEMBERED:
            self._refusals.clear()
        self._refusals[self._host(target)] = None
