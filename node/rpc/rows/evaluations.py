"""Errors of datasets, evaluations and plans (31xx): what happened, why it happens, what to type.

The form of a row is in `reasons`. Knows: words. Must not know: who raises what.
"""

from typing import Final

ROWS: Final = """
bad_dataset -32035 3100 usage: this is no dataset
  the file has another form, or its slices lack labels
  see docs/spec/storage.md, Slices
"""
