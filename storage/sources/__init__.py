"""Sources of blocks outside the PRSM network."""
