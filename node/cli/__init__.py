"""The command line: a client of the running node that never imports the daemon."""
