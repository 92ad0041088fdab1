"""The join: it removes from a continuation the text that the reader already has."""
