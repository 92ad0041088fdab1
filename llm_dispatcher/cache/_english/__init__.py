"""Rules about English texts: whether two texts ask the same thing. Nothing here knows of caches or requests."""
