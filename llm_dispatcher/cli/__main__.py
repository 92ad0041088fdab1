"""`python -m llm_dispatcher.cli`."""

from . import main

main()
