"""`python -m llm_dispatcher._cli`."""

from . import main

main()
