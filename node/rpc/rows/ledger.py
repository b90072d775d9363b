"""Errors of ledger and agreement (2xxx): what happened, why it happens, what to type.

The form of a row is in `reasons`. Knows: words. Must not know: who raises what.
"""

from typing import Final

ROWS: Final = """
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
transaction_unseen -32004 2042 failed: what became of the transaction is not known here
  its block went by while the node was cut off, and the node goes on from a state of its peers
  look at the balance, or ask another node; send it again only if nothing was paid
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
"""
