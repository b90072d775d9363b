"""Bitswap with IPFS peers of other programs: blocks by CID, both ways, behind a door of its own."""
