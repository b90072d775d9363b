"""Whom this node knows: finding peers, announcing itself, hearing of others."""
