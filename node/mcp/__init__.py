"""`prsm mcp`: models, quotes, work and receipts as tools of the Model Context Protocol."""
