"""What bytes are called: CIDs of files and folders, CARs, shards, pieces."""
