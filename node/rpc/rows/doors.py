"""Errors of connections, repeated calls and pages (102x): what, why, what to type.

The form of a row is in `reasons`. Knows: words. Must not know: who raises what.
"""

from typing import Final

ROWS: Final = """
only_by_socket -32009 1022 usage: this call speaks of its connection
  over HTTP no connection lasts that could be told something
  connect to ws://HOST/ws
"""
