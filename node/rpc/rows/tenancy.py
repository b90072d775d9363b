"""Errors about audits, tenants and what tokens may spend (1040-1049).

The form of a row is in `reasons`. Knows: words. Must not know: who raises what.
"""

from typing import Final

ROWS: Final = """
nothing_new -32004 1040 failed: there is nothing new to anchor
  no call was audited since the last root went to the ledger
  prsm audit verify
"""
