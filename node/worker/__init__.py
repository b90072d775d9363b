"""The worker program: the only place that opens a model file."""
