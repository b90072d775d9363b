"""Errors of the call itself (1xxx): what happened, why it happens, what to type.

The form of a row is in `reasons`. Knows: words. Must not know: who raises what.
"""

from typing import Final

ROWS: Final = """
internal -32603 1000 failed: the node failed at this call
  a fault of the node; its log has the trace id
  prsm status
parse_failed -32700 1001 usage: the call is no JSON
  the body was cut or is of another format
  prsm rpc call METHOD key=value
invalid_request -32600 1002 usage: the call is no JSON-RPC 2.0 request
  jsonrpc, method or id is missing or of another type
  prsm rpc call METHOD key=value
unknown_method -32601 1003 usage: no such method
  the name is wrong, or this node is older than the client
  prsm rpc methods
invalid_params -32602 1004 usage: a parameter is not accepted
  it is unknown, missing, of another type or out of bounds
  prsm rpc methods METHOD
unauthorised -32001 1005 forbidden: the call carries no valid token
  token, signature or cookie is absent, has ended, or is of another node or start
  prsm status --home DIR
forbidden -32002 1006 forbidden: the caller may not do this
  the token lacks the method's scope, or Host or Origin is foreign
  prsm token whoami
too_large -32008 1007 usage: the call or its answer is too large
  a limit of rpc_getInfo was passed
  prsm rpc call rpc_getInfo
rate_limited -32005 1008 failed retry: the node is at its limit of calls or connections
  too many clients at once
  try again after retry_after_ms
deadline_passed -32006 1009 deadline retry: the deadline passed
  the node, a peer or a job took longer than allowed
  try again, or give more with --timeout
not_ready -32007 1010 failed retry: the node is not ready
  it is starting, or behind the network
  prsm status --wait ready
wrong_http -32600 1011 usage: the HTTP request is not accepted
  calls are POST with application/json to /rpc
  prsm rpc call METHOD
unsupported -32009 1012 failed: not available on this node
  a part is not installed, not enabled or not built
  prsm config show
unsupported_version -32009 1013 failed: of another version
  it was written by a version this one does not read
  prsm version
not_found -32003 1014 failed: not found
  nothing of that name or id is known here
  list what there is with ls
conflict -32004 1015 failed: it exists already or is in use
  somebody was first
  choose another name
busy -32005 1016 failed retry: the other side is busy
  its queue is full
  try again in a moment
cancelled -32603 1017 failed retry: the call was cancelled
  its caller went away, or the node is stopping
  try again
refused -32050 1018 failed: a peer refused
  its answer says why
  prsm net peers
usage -32602 1019 usage: the command line is not understood
  a word or option is unknown, missing or misplaced
  prsm --help
"""
