"""Measures a network of real daemons as its clients see it; see `run`."""
