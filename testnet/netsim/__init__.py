"""Simulated networks of a thousand nodes and more: gossip, dials and attacks in virtual time."""
