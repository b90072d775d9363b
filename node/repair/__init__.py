"""Copies of models: who should hold one, and what this node does when one is lost."""
