"""Errors of the command line (105x): what happened, why it happens, what to type.

The form of a row is in `reasons`. Knows: words. Must not know: who raises what.
"""

from typing import Final

ROWS: Final = """
ambiguous_id -32602 1050 usage: several ids begin like that
  an id may be cut only where one thing begins with it
  type more of it
"""
