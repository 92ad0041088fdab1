"""OpenAI, and the hosts that speak its two wires."""
