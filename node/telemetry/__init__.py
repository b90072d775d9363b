"""What a node says of itself: logs, metrics, alerts, traces, events. Knows no other room."""
