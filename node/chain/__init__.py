"""This node's part in agreement, and its copy of the ledger: door, pool, driver, sync, wallet."""
