"""The second kind of work: how often a model is right on a registered dataset."""
