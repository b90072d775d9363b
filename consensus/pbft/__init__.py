"""Agreement on opaque payloads, one height at a time."""
