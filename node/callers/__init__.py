"""Who calls this node, and what each may do, see and spend; and what is written down of it."""
