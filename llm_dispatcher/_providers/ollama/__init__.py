"""Ollama and its native chat wire."""
