"""What clients did and were told: the history that a checker judges.

Knows: operations with the time of their invocation and completion. Must not know: who made them,
nor the rules. Times are nanoseconds of one monotonic clock: all clients live in one process.
"""

from dataclasses import dataclass, field
from enum import Enum


class Outcome(Enum):
    """What a client knows at the end of an operation."""

    OK = "ok"  # acknowledged: a node said it is in a block, or answered the read
    REFUSED = "refused"  # it can never have an effect: another one took its place
    UNKNOWN = "unknown"  # no answer; it may have happened, or happen later


@dataclass(slots=True)
class Write:
    """One signed transaction, however often and to whomever it was handed.

    Attributes:
        raw: its canonical bytes.
        node: place of the node that acknowledged it, -1 for none.
        height, index: where it stands, as that node said.
        done: whether it had its effect, as that node said; a refusal of the ledger costs the fee.
    """

    client: int
    tx_id: bytes
    raw: bytes
    invoked_ns: int
    completed_ns: int = 0
    outcome: Outcome = Outcome.UNKNOWN
    node: int = -1
    height: int = 0
    index: int = 0
    done: bool = False


@dataclass(slots=True)
class Read:
    """What a node said of an account.

    Attributes:
        asked_height: the block the answer had to wait for; 0 for whatever is there.
        height: the block the answer speaks of.
        balance: micro-FTNS; None if the question was for the nonce alone.
    """

    client: int
    node: int
    account: bytes
    asked_height: int
    invoked_ns: int
    completed_ns: int = 0
    outcome: Outcome = Outcome.UNKNOWN
    height: int = 0
    balance: int | None = None
    nonce: int = 0


@dataclass(slots=True)
class Count:
    """What a node said of all the money: minted = accounts + locked + bonded + burnt."""

    client: int
    node: int
    invoked_ns: int
    completed_ns: int = 0
    outcome: Outcome = Outcome.UNKNOWN
    height: int = 0
    minted: int = 0
    accounts: int = 0
    locked: int = 0
    bonded: int = 0
    burnt: int = 0


@dataclass(slots=True)
class History:
    """Everything that all clients did."""

    writes: list[Write] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    counts: list[Count] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.writes) + len(self.reads) + len(self.counts)
