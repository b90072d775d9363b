"""Ledgers in files: exported, imported, backed up, restored; a program beside the daemon."""
