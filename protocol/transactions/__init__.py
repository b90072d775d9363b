"""What the ledger accepts: the payload of each transaction kind."""
