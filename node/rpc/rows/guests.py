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
tls_unusable -32602 1033 usage: the certificate of the door cannot be used
  it is absent, of another key, under a password, or others may read the key
  prsm config show --origin
bad_credentials -32602 1034 usage: the file of a token, key or certificate cannot be used
  it is absent, of another form, or others may read it
  chmod 600 FILE
provider_unreachable -32007 1035 failed retry: the provider of identities does not answer
  it is away, answers in another form, or login.issuer is wrong
  prsm config show --origin
"""
