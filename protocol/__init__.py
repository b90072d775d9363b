"""What all nodes agree on, byte for byte. Imports nothing of ours; knows no clock or disk."""
