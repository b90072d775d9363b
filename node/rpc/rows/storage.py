"""Errors of storage and keys (5xxx): what happened, why it happens, what to type.

The form of a row is in `reasons`. Knows: words. Must not know: who raises what.
"""

from typing import Final

ROWS: Final = """
store_unavailable -32060 5001 failed retry: the store does not answer
  the disk refused, or the file is of a newer version
  prsm where
disk_full -32061 5002 failed: no room
  the disk or storage.quota is full; nothing was lost
  raise storage.quota, or free space
source_failed -32050 5003 failed retry: a source of blocks failed
  it did not do what it was asked
  prsm storage stats
source_down -32050 5004 failed retry: a source of blocks is down
  nobody answers there
  check storage.ipfs_rpc
timeout -32006 5005 deadline retry: no answer in time
  the other side is slow or gone
  try again
source_broken -32050 5006 failed retry: a source of blocks broke off
  its answer was cut or of another protocol
  try again
source_unfit -32050 5060 failed: a source answers in another form
  it is no trustless gateway, or its settings forbid raw blocks
  prsm storage sources; take it out of storage.gateways
bad_erasure_code -32602 5070 usage: no such code
  k of n with 1 <= k < n <= 64
  4 of 6 outlives the loss of any two holders
too_few_shards -32003 5071 failed: too few good shards
  fewer are here, or right, than the code needs
  bring another shard of the set into the folder
false_shards -32050 5072 failed: shards of another file
  they have their hashes and give another file: whoever made them is at fault
  ask the publisher
outbox_full -32005 5073 failed retry: too many intents wait
  nobody has taken them for long
  prsm storage outbox
cannot_wait -32005 5076 failed retry: no validator answers
  its price or deadline may be another one later, so it is not kept for then
  prsm net peers, and the same again when they answer
intent_unsure -32005 5077 failed: what became of it is not known
  this node took a snapshot over the blocks that may hold the transaction
  look at the ledger, and order it again if it is not done
deal_not_found -32003 5074 failed: no such deal
  the ledger has none of that id
  prsm storage deals
deal_mismatch -32031 5075 unverified: the deal is about another file
  its commitment is not that of the bytes its CID names
  tell its client
wrong_password -32001 5010 forbidden: the key does not open
  the password is wrong, or the file was changed
  try again; a forgotten password cannot be recovered
exposed_key -32002 5011 forbidden: others may read the key
  the file's mode is wider than 0600
  chmod 600 FILE
wallet_locked -32002 5012 forbidden: the wallet is locked
  its key is opened for a while only
  prsm wallet unlock
bad_chain_file -32031 5020 unverified: the chain file is damaged
  it is no chain file, was cut off, or was changed
  prsm chain export FILE
bad_chain -32034 5021 unverified: a block of the file does not hold
  its certificate, its links or its roots contradict the ledger
  prsm chain export FILE, on a node you trust to be whole
other_chain -32051 5022 failed: the file is of another chain
  it was written by a node of another network or history
  prsm chain status
chain_gap -32004 5023 failed: blocks are missing before those of the file
  the file begins above the height this ledger needs next
  prsm chain export FILE --from HEIGHT
pruned -32003 5030 failed: the block was pruned here
  blocks below the oldest snapshot are forgotten with chain.prune
  ask a node that keeps all blocks
resume_refused -32602 5026 usage: the height is not above what this home has settled
  its ledger has that block, or its log or guard rules out a vote there
  prsm chain status
other_run -32004 5027 usage: the file belongs to another run
  seeds of one run are counted in one file, and its faults or sizes differ
  give another file to --resume
bad_backup -32031 5024 unverified: the backup does not hold
  it is no backup, was cut off or changed, or its parts contradict each other
  prsm backup FILE
not_recipient -32002 5031 forbidden: it is sealed for others
  its publisher did not wrap the key for this node
  prsm model show REF, then ask its publisher
bad_envelope -32031 5032 unverified: the sealed bytes do not hold
  they were changed or cut off, or are not sealed at all
  prsm model verify REF
offline -32050 5041 unreachable: it is not here, and this node asks nobody
  offline mode is on
  prsm model pull REF, with a node that is not offline
fetch_cancelled -32051 5042 failed: the fetch was ended
  somebody cancelled it; what was verified stays
  prsm model pull REF
foreign_manifest -32031 5080 unverified: not its publisher's word
  what the name leads to is not signed by whom the ledger names
  prsm model show NAME@VERSION, then ask its publisher
yanked -32002 5081 failed: the version was withdrawn
  its publisher yanked it; it can still be named exactly
  prsm model show NAME
"""
