"""Economics: integers, deterministic, alike on every node."""
