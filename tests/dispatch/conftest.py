"""What the clocks of these tests must not count."""

from __future__ import annotations

import gc

import anthropic.resources.messages  # noqa: F401
import google.genai.models  # noqa: F401
import openai.resources.chat.completions
import openai.resources.responses  # noqa: F401

# Collecting what the SDKs are made of takes a quarter of a second, which a `first_token` clock of 0.3 s counts as the
# vendor's silence; set aside, it is never looked at again.
gc.collect()
gc.freeze()
