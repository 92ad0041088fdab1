"""JSON that a model writes: reading it while it comes, and checking it against a schema. Nothing here does I/O."""
