"""Histories of real networks through JSON-RPC, judged against a serial model."""
