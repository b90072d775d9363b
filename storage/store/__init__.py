"""The model store: files by CID, kept within a quota, checked, collected."""
