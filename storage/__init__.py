"""Everything that survives a restart."""
