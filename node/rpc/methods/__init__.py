"""Parameters and results of every method, by namespace."""
