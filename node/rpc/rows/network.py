"""Errors of the network (4xxx): what happened, why it happens, what to type.

The form of a row is in `reasons`. Knows: words. Must not know: who raises what.
"""

from typing import Final

ROWS: Final = """
peer_unreachable -32050 4001 failed retry: the peer cannot be reached
  it is down, or the address is another one
  prsm net peers
wrong_chain -32051 4002 failed: of another network
  the genesis files differ
  prsm init --genesis FILE
protocol_mismatch -32052 4003 failed: the peer speaks another protocol version
  one of both is too old
  prsm version
protocol_violation -32050 4004 failed: a peer broke the protocol
  it is faulty or hostile; it was penalised
  prsm net peers
bad_encoding -32602 4005 failed: not the canonical bytes
  they were cut, changed or written by another version
  send the bytes as they were made
bans_unreadable -32603 4030 failed: the file of bans cannot be read
  it was written by hand, by a newer version, or the disk is damaged
  prsm net bans
circuit_abused -32050 4040 failed: a peer broke the rules of a circuit
  it sent more than it had credit for, or on a circuit nobody opened
  prsm net peers
relay_off -32050 4041 failed: that node is no relay
  net.relay is off there
  prsm config show
relay_loop -32050 4042 failed: a relay was asked through a relay
  circuits through two relays are refused: they could form a loop
  prsm net peers
relay_no_place -32050 4043 failed retry: the peer has no place at that relay
  it left, or its place was not renewed
  prsm net peers
relay_lied -32050 4044 failed: a relay named another peer than was there
  the other end proved to be somebody else
  prsm net peers
not_allowed -32002 4020 forbidden: an allow-list keeps the peer out
  net.trusted of one of both nodes does not name the other
  add the peer id to net.trusted there
peer_full -32050 4047 failed retry: all places for peers are taken
  a node takes 128 links at most (net.max_peers), and keeps some for those it dials
  prsm net peers
wrong_network_key -32051 4021 failed retry: the peer has another network key, or none
  the private networks of both nodes differ: net.psk_file
  copy the key file of that network, then prsm start
bad_network_key -32602 4022 usage: no key of a private network
  the file of net.psk_file is no such file, or was changed
  prsm net new-key FILE
dial_refused -32050 4045 failed: a dial back is not made
  it would go to another peer or another ip than the caller's
  prsm net reach
unknown_node -32050 4046 failed: that node is not linked there
  only linked peers tell their links
  prsm net topology
address_taken -32004 4006 failed: the peer-to-peer address cannot be had
  another program listens there, or it is no address of this machine
  change net.listen in config.toml
"""
