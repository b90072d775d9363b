"""Errors of tokens, logins and the public door (103x): what happened, why, what to type.

The form of a row is in `reasons`. Knows: words. Must not know: who raises what.
"""

from typing import Final

ROWS: Final = """
token_not_found -32003 1030 failed: no such token
  the id is wrong, or of another tenant
  prsm token ls
token_limit -32005 1031 failed: every place for a token is taken
  a thousand tokens are live
  prsm token revoke ID
tokens_damaged -32603 1032 failed: the file of tokens cannot be read
  a disk failed, or somebody wrote into it
  move it away and start again; tokens made so far then end
"""
