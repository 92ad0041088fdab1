"""Gemini and its wire."""
