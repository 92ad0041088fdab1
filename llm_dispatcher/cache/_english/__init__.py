"""A judgement about English: whether the answer to one text may be served for another."""
