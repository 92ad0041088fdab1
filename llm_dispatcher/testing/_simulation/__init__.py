"""The simulation: a program runs in virtual time, and every scheduling decision comes from a seed."""
