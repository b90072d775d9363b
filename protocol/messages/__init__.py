"""Node to node, and daemon to worker: the records behind each message number."""
