"""Errors about audits, tenants and what tokens may spend (1040-1049).

The form of a row is in `reasons`. Knows: words. Must not know: who raises what.
"""

from typing import Final

ROWS: Final = """
nothing_new -32004 1040 failed: there is nothing new to anchor
  no call was audited since the last root went to the ledger
  prsm audit verify
spend_limit -32014 1041 forbidden: the token may not spend so much
  its spend limit or its cap of 24 hours leaves less than the call may cost
  prsm tenant spending
quota_passed -32014 1042 forbidden: the tenant has no more room
  its quota of running work or of stored bytes is used
  prsm tenant show
bad_key -32602 1043 usage: it is no payment key
  a key has 32 bytes, and a key file names the public side of what it holds
  prsm wallet export NAME FILE
"""
