"""Errors of generation (32xx): what happened, why it happens, what to type.

The form of a row is in `reasons`. Knows: words. Must not know: who raises what.
"""

from typing import Final

ROWS: Final = """
position_mismatch -32033 3200 failed retry: a session holds another number of positions
  an answer was lost, or the session began anew
  generate again
quota_full -32005 3201 failed retry: no room for the session's cache
  the cache of keys and values would pass the bytes it may have
  ask for fewer tokens, or wait
unknown_session -32003 3202 failed retry: no such session here
  it ended, was idle for too long, or belongs to another peer
  generate again
unknown_generation -32003 3203 failed: no such generation on this node
  it is over and forgotten, or the id is of another node
  prsm generate MODEL PROMPT
reader_too_slow -32007 3204 failed: nobody read the tokens
  a generation whose reader is gone is ended
  prsm generate MODEL PROMPT
"""
