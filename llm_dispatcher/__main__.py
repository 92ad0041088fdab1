"""`python -m llm_dispatcher` is the command `llm-dispatcher`."""

from ._cli import main

main()
