"""Copies of files in the network: who holds them, who must prove it, what is repaired."""
