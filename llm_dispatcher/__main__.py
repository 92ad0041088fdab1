"""`python -m llm_dispatcher` is the command `llm-dispatcher`."""

from .cli import main

main()
