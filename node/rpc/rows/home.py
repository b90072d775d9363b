"""Errors of the node and its folder (6xxx): what happened, why it happens, what to type.

The form of a row is in `reasons`. Knows: words. Must not know: who raises what.
"""

from typing import Final

ROWS: Final = """
config_invalid -32602 6001 usage: the configuration is not accepted
  a key is unknown, or a value does not fit
  prsm config validate
bad_config -32602 6010 usage: values of the configuration contradict each other
  a time, size or number lies outside of what can work
  prsm config validate
no_text -32003 6011 usage: no sentences to work on
  the file is empty or holds no sentences
  prsm demo --text FILE
node_died -32033 6012 failed: a daemon of the network ended
  its last words say why
  read its log
demo_failed -32034 6013 failed: the demo did not hold what it promises
  a check of the result, the payments or the receipt failed
  prsm demo --keep, then look at the logs
home_missing -32003 6002 usage: no node in this folder
  it was never made
  prsm init
home_exists -32004 6003 usage: a node is already in this folder
  init never overwrites keys
  prsm start
home_locked -32004 6004 failed: the folder is in use
  another process of the node holds its lock
  prsm stop
home_unsafe -32002 6005 forbidden: others may read the node's keys
  the folder's mode is wider than 0700
  chmod -R go= DIR
port_taken -32004 6006 failed: the port is taken
  another program listens there
  change rpc.listen in config.toml
public_bind -32602 6007 usage: not a loopback address, without TLS and tokens
  what is sent in clear text is everybody's on the way
  set rpc.listen = "127.0.0.1:8480", or rpc.tls_cert, rpc.tls_key and rpc.jwt = true
node_unreachable -32007 6008 unreachable retry: the node does not answer
  it is not running, or listens elsewhere
  prsm start
start_failed -32007 6009 failed: the node did not start
  its log says why
  prsm where
"""
