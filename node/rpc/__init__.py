"""The RPC contract and its clients; knows no other room of the node."""
