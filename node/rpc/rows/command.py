"""Errors of the command line (105x): what happened, why it happens, what to type.

The form of a row is in `reasons`. Knows: words. Must not know: who raises what.
"""

from typing import Final

ROWS: Final = """
ambiguous_id -32602 1050 usage: several ids begin like that
  an id may be cut only where one thing begins with it
  type more of it
output_lost -32061 1051 failed: an answer or a file cannot be written
  where it was to go is closed, or has no room
  make room, or send it elsewhere; what was ordered may be done all the same
"""
