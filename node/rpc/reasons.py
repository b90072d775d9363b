"""The rows of the error registry, as text: what, why, and what to type.

Each entry is three lines: `reason code number exit [retry]: what happened`, why it happens, what
to type. Numbers are never used again: 1xxx the call, 2xxx ledger and agreement, 3xxx models
and work, 4xxx network, 5xxx storage and keys, 6xxx the node and its folder.

Knows: words. Must not know: who raises what (errors, and the test that walks all classes).
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from prsm.node.rpc.entries import Entry, Exit, read_rows

__all__ = ["BY_NUMBER", "REGISTRY", "Entry", "Exit", "entry_for"]

_ROWS: Final = """
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
  the cookie is absent, or of an earlier start of the node
  prsm status --home DIR
forbidden -32002 1006 forbidden: the caller may not do this
  the token lacks the method's scope, or Host or Origin is foreign
  use run/.cookie of the node's home
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
insufficient_funds -32010 2001 failed: the balance is too small
  amount and fee are more than the account holds
  prsm wallet balance
bad_nonce -32011 2002 failed retry: the nonce is not the next one
  another transaction of the account was first, or one is missing
  prsm rpc call account_getNonce
bad_signature -32012 2003 unverified: a signature does not hold
  the bytes were changed, or the key is another one
  sign again with the right key
escrow_state -32013 2004 failed: the escrow is not in that state
  it is settled, refunded, or not locked yet
  prsm job show JOB
price_exceeded -32014 2005 failed: above the limit set
  the price, fee or amount is higher than allowed
  raise --max-price, or ask for less
transaction_refused -32602 2006 failed: the ledger would refuse this transaction
  it breaks a rule of its kind
  prsm chain tx ID
duplicate_transaction -32004 2007 failed: the transaction is known already
  it was handed in before
  prsm chain tx ID
mempool_full -32005 2008 failed retry: no room for more transactions
  blocks come slower than transactions
  try again in a moment
sender_limited -32005 2040 failed retry: too much of this account waits
  blocks come slower than its transactions
  try again in a moment
nonce_gap -32011 2041 failed retry: a transaction before this one is missing
  it was never handed in, or it expired
  prsm rpc call account_getNonce
bond_state -32013 2023 failed: the bond is not in that state
  the operator has not joined, was convicted, wants this already, or nothing is free yet
  prsm validator show
fee_too_low -32014 2018 failed: the fee is too small
  the network asks more for a transaction of this size
  prsm rpc call chain_getStatus
expired -32006 2019 failed retry: the transaction's time is over
  valid_until is in the past, or further ahead than the network allows
  send it again
transaction_expired -32006 2020 deadline retry: the transaction came into no block in time
  the network was busy, split or without quorum
  prsm chain status
transaction_failed -32004 2021 failed: the ledger executed the transaction and refused it
  a rule of its kind did not hold at that height; the fee is paid
  prsm chain tx ID
state_diverged -32034 2022 unverified: a certified block contradicts this node's state
  its disk or its program is faulty; it stopped and kept its data
  prsm where
no_quorum -32020 2010 failed retry: no quorum
  more than a third of the stake does not answer
  prsm chain validators
not_a_validator -32021 2011 failed: not a validator
  the key is not in the set of this epoch
  prsm chain validators
view_change -32022 2012 failed retry: a view change is in progress
  the proposer was too slow
  try again in a moment
equivocation -32023 2013 failed: two messages no honest validator signs
  one key runs twice, or its owner cheats
  prsm chain status
halted -32041 2014 failed: the network has halted this
  two thirds of the stake voted for it
  prsm chain status
policy_refused -32040 2015 failed: a policy refuses this
  the operator or the network does not allow it
  prsm config show
bad_genesis -32602 2016 failed: the genesis document is not usable
  it is no such document, or contradicts itself
  get the file again from the network's founder
invalid_block -32034 2017 unverified: a block breaks the rules
  its proposer is faulty, or of another version
  prsm status
model_not_found -32030 3001 failed: no such model
  neither this node nor the ledger knows the name
  prsm model ls
integrity_failed -32031 3002 unverified: the bytes do not match their hash
  a disk or a peer gave other bytes than were stored
  prsm model pull REF
no_placement -32032 3003 failed retry: no peers for this plan
  too few connected peers offer what the job needs
  prsm net peers
worker_failed -32033 3004 failed retry: a worker process failed
  it died or broke its protocol
  see the log: prsm where
verification_failed -32034 3005 unverified: verification failed
  answers, proofs or hashes do not agree
  prsm proof verify FILE
input_mismatch -32035 3006 usage: the input does not fit the model
  name, dtype or shape is another one
  prsm model show REF
out_of_memory -32036 3007 failed: the worker ran out of memory
  the job needs more than executor.memory
  raise executor.memory in config.toml
model_refused -32040 3008 failed: the model is refused
  external data, forbidden operators, or results that differ
  prsm explain PRSM-3008
no_cut_for_k -32602 3009 usage: the model cannot be cut so
  its graph has no such cut
  choose another number of stages
bad_receipt -32034 3010 unverified: the receipt does not hold
  a hash, signature or quorum in it is wrong
  prsm proof verify FILE
job_failed -32033 3011 failed retry: the job failed
  its workers failed or disagreed
  prsm job show JOB
bad_proof -32034 3012 unverified: the proof does not hold
  a hash, signature or quorum in it is wrong
  prsm proof verify FILE
work_refused -32033 3013 failed: a peer refuses this work
  its answer says why
  prsm net peers
unknown_job -32003 3014 failed: no such job here
  the ledger of that node does not know it, or the unit is not open
  prsm job ls
not_named -32002 3015 forbidden: the job does not name this node for that unit
  the lock names other workers, or another account asks
  prsm job show JOB
job_closed -32013 3016 failed: the job is over
  it was settled, refunded, or its deadline passed
  prsm job show JOB
price_below_ask -32014 3017 failed: the job pays less than the worker asks
  prices differ between peers and change
  raise --max-price
unit_incomplete -32013 3018 failed retry: not every micro-batch of the unit was done
  the worker was lost or too slow
  prsm job show JOB
batch_too_large -32008 3019 usage: a micro-batch is too large
  its tensors pass what one message may hold
  ask for fewer rows or shorter texts at once
not_committed -32006 3020 deadline retry: the chain did not take it in time
  a transaction is in no block yet; it may still come into one
  prsm chain status
not_finished -32007 3021 failed retry: the job has no result yet
  it is still running
  prsm job show JOB
worker_lost -32033 3022 failed retry: a worker was lost
  it was unreachable, refused, too slow, or answered in another form
  prsm job show JOB
rows_differ -32035 3023 usage: the rows have different shapes
  rows of one tensor must be alike
  give rows of one shape, or texts
no_quorum_of_results -32034 3024 unverified retry: no two workers agree
  workers failed, or more than one gave a wrong answer
  prsm job show JOB
job_too_large -32008 3025 usage: the job is too large
  its rows or tensors pass what one job may hold
  run it in parts
plan_refused -32032 3026 failed: no plan for this job
  the model, the peers or the limits leave none
  prsm model show REF
too_few_peers -32032 3027 failed retry: too few peers
  replicas must be distinct peers, and one more must be free to decide
  prsm net peers
runtime_mismatch -32032 3028 failed: no peers of the model's runtime
  bits are equal only between equal runtimes
  prsm net peers
price_over_cap -32014 3029 failed: the plan costs more than allowed
  the peers ask more than --max-price
  raise --max-price
deadline_impossible -32006 3030 usage: the deadline cannot be met
  the job takes longer than that even if nothing goes wrong
  give more with --deadline
too_many_batches -32008 3031 usage: too many micro-batches
  one job holds a bounded number of them
  run it in parts
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
address_taken -32004 4006 failed: the peer-to-peer address is taken
  another program listens there
  change net.listen in config.toml
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
public_bind -32602 6007 usage: not a loopback address
  there is no TLS to protect anything else
  set rpc.listen = "127.0.0.1:8480"
node_unreachable -32007 6008 unreachable retry: the node does not answer
  it is not running, or listens elsewhere
  prsm start
start_failed -32007 6009 failed: the node did not start
  its log says why
  prsm where
"""


REGISTRY: Final = read_rows(_ROWS)
BY_NUMBER: Final[Mapping[int, Entry]] = MappingProxyType(
    {entry.number: entry for entry in REGISTRY.values()}
)
assert len(REGISTRY) == len(BY_NUMBER), "a PRSM number is used twice"


def entry_for(reason: str) -> Entry:
    """The row of a reason; an unknown one counts as internal."""
    return REGISTRY.get(reason, REGISTRY["internal"])
