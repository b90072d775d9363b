"""PRSM: Protocol for Recursive Scientific Modeling."""
