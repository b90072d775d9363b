"""Plans of several steps: a small graph of typed work under one escrow, resumed after a crash."""
