"""What an entry of the configuration says of its host, over what the host's row says."""

from __future__ import annotations

from .._policy import ProviderSettings
from ..exceptions import ConfigurationError
from . import adapters
from .quirks import QUIRKS, Quirk
from .table import vendor


def quirks_of(settings: ProviderSettings) -> frozenset[Quirk]:
    """The quirks of a host: those of its row, or those of the option `quirks` if its entry has that."""
    row = vendor(settings.kind)
    # A third party's kind may have an option of this name, which means something else.
    quirks = settings.options.get("quirks") if row.adapter is adapters.OPENAI else None
    if quirks is None:
        return row.quirks_at(settings.base_url)
    if not isinstance(quirks, (list, tuple)) or not all(isinstance(name, str) and name in QUIRKS for name in quirks):
        raise ConfigurationError(
            f"is a list of quirks, each one of {', '.join(QUIRKS)}", key=f"providers.{settings.name}.options.quirks"
        )
    return frozenset(quirks)
