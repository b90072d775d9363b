"""Serving: many small requests answered from warm workers under few locks (docs/spec/work.md)."""
