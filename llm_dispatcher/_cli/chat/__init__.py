"""`llm-dispatcher chat`: a conversation in the terminal, with memory, tools, branches and a file."""
