"""Finding models and datasets by what they are for."""
