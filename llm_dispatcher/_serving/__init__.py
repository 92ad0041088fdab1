"""One call from its settings to its events: the only place where routing, the loop, the cache and the tap meet."""
