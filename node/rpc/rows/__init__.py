"""The rows of the error registry, a file for each thousand of PRSM numbers."""
