"""What became of a transaction: its code, and what it took out of an escrow.

One `TxReceipt` a transaction, in the order of the block; the next header's `receipts_root` is
the Merkle root over them. Source: docs/spec/ledger.md, "Receipts of transactions".
"""

from enum import IntEnum
from typing import Annotated

import msgspec

from prsm.protocol.codec import Record
from prsm.protocol.ids import U32, Bytes32, UInt


class Code(IntEnum):
    """Why a transaction had its effect (`DONE`) or only cost its fee; numbers are for ever."""

    DONE = 0
    INSUFFICIENT_FUNDS = 1
    UNKNOWN_ASSET = 2
    MODEL_EXISTS = 10
    VERSION_EXISTS = 11
    NAME_TAKEN = 12
    BAD_NAME = 13
    UNKNOWN_PARENT = 14
    MODEL_HALTED = 15
    JOB_EXISTS = 20
    BAD_UNITS = 21
    BAD_SHARES = 22
    BAD_DEADLINE = 23
    PARENT_CLOSED = 24
    NOT_REQUESTER = 25
    TOO_DEEP = 26
    BUDGET_EXCEEDED = 27
    UNKNOWN_JOB = 30
    JOB_CLOSED = 31
    UNKNOWN_UNIT = 32
    UNIT_SETTLED = 33
    NOT_WORKER = 34
    ALREADY_COMMITTED = 35
    BAD_RECEIPT = 40
    BAD_RECEIPT_SIGNATURE = 41
    FOREIGN_RECEIPT = 42
    WORKER_TWICE = 43
    NOT_COMMITTED = 44
    UNDECIDED = 45
    CHAIN_BROKEN = 46
    LEFT_OUT = 47
    BAD_FEED = 48
    NO_PLEDGE = 140
    NOT_DRAWN = 141
    ALREADY_AUDITED = 142
    NOT_SAMPLED = 143
    CASE_OPEN = 144
    UNKNOWN_CASE = 145
    NOT_JUROR = 146
    NOT_SEALED = 147
    TOO_EARLY = 50
    CHILD_OPEN = 51
    BAD_EVIDENCE = 60
    ALREADY_PUNISHED = 61
    EVIDENCE_TOO_OLD = 62
    NOT_OPERATOR = 70
    ALREADY_VOTED = 71
    NOTHING_TO_VOTE = 72
    HOLD_EXISTS = 80
    BAD_CONDITION = 81
    UNKNOWN_HOLD = 82
    HOLD_CLOSED = 83
    UNKNOWN_BRANCH = 84
    BAD_APPROVAL = 85
    CONDITION_UNMET = 86
    NOTHING_VESTED = 87
    TOO_LATE = 88
    NO_FALLBACK = 89
    NOT_VALIDATOR = 90
    ALREADY_VALIDATOR = 91
    KEY_USED = 92
    PEER_USED = 93
    BAD_POSSESSION = 94
    STAKE_TOO_SMALL = 95
    TOMBSTONED = 96
    ROSTER_FULL = 97
    NOTHING_MATURED = 98
    NO_CHANGE = 99
    UNKNOWN_PROPOSAL = 100
    PROPOSAL_EXISTS = 101
    PROPOSAL_CLOSED = 102
    NO_ELECTORS = 103
    UNKNOWN_PARAMETER = 104
    PARAMETER_FIXED = 105
    BAD_VALUE = 106
    WRONG_CATEGORY = 107
    BAD_DELEGATE = 108
    NOT_PUBLISHER = 110
    UNKNOWN_VERSION = 111
    VERSION_YANKED = 112
    BAD_CHANNEL = 113
    TOO_MANY_CHANNELS = 114
    UNKNOWN_MANIFEST = 115
    TOO_MANY_VERSIONS = 116
    DEAL_EXISTS = 130
    BAD_TERMS = 131
    BAD_GRANT = 132
    UNKNOWN_DEAL = 133
    DEAL_CLOSED = 134
    NOT_HOLDER = 135
    WRONG_ROUND = 136
    ALREADY_PROVEN = 137
    NOTHING_LAPSED = 138
    NOT_AS_DRAWN = 160
    BAD_SCORE = 161
    TOO_MANY_DRAWS = 162


class Payment(Record, frozen=True):
    """What one account got out of an escrow or a hold, in micro-FTNS."""

    account: Bytes32
    amount: UInt


class TxReceipt(Record, frozen=True):
    """The effect of one transaction."""

    tx: Bytes32
    code: Code
    fee: UInt
    paid: Annotated[tuple[Payment, ...], msgspec.Meta(max_length=64)]  # by account, ascending
    returned: UInt  # to the requester, the budget of the parent job, or the fallback of a hold
    detail: U32  # batches decided by a settlement, else 0
