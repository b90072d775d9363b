"""One handler for each method of the contract: asks rooms, writes results."""
