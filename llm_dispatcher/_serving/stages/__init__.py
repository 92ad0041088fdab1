"""Stages: each does one thing to the events of a call."""
