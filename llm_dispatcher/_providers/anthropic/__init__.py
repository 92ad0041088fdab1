"""Anthropic and its messages wire."""
