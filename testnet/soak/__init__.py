"""An hour of seven daemons under faults and load, looked at every ten seconds for what grows."""
