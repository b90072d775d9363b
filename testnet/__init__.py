"""Networks on one machine, simulated and real."""
