"""Generation over stages whose caches stay at their workers: requester, worker side, and speech."""
