"""Pure rules: agreement (pbft) and economics (ledger). No clock, dice, disk, socket or log."""
