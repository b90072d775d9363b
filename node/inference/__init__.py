"""Jobs of ours, and shards run for peers; no model is parsed here."""
