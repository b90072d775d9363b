"""Snapshots of the state: made, served, taken by who is far behind; and blocks pruned below."""
