"""The demo: simulated vendors that break when they are told to."""
