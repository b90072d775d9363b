"""The daemon, its rooms, and the programs beside it."""
