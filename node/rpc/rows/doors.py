"""Errors of connections, repeated calls and pages (102x): what, why, what to type.

The form of a row is in `reasons`. Knows: words. Must not know: who raises what.
"""

from typing import Final

ROWS: Final = """
key_reused -32004 1020 usage: the key belongs to another call
  a call with this idempotency_key asked for something else within a day
  give each call its own key
outcome_unknown -32004 1021 failed: what came of this call is not known
  it ran before with this key, and the node ended before its answer was kept
  look whether it took effect, then call again with another key
only_by_socket -32009 1022 usage: this call speaks of its connection
  over HTTP no connection lasts that could be told something
  connect to ws://HOST/ws
"""
