"""What this node works with, put together: models, jobs, checks, serving, search."""
