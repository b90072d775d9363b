"""The serial model: what the blocks of a chain do to accounts, in sixty lines of its own.

Knows: transfers, and holds behind a hash lock, as docs/spec/ledger.md says. Must not know: the
ledger's code; only records are shared, so that a fault of the ledger cannot hide itself. It
remembers every state, since a read may speak of any height.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from prsm.protocol.codec import Record, decode
from prsm.protocol.genesis import TREASURY, Genesis
from prsm.protocol.limits import TRANSACTION_BYTES_MAX
from prsm.protocol.signing import sha256
from prsm.protocol.transactions.conditions import Claim, HashLock, Hold, hold_id
from prsm.protocol.transactions.envelope import Transaction, decode_transaction
from prsm.protocol.transactions.payloads import CLAIM, HOLD, TRANSFER, Transfer

_SHAPES: Final[dict[int, type[Record]]] = {TRANSFER: Transfer, HOLD: Hold, CLAIM: Claim}


class Impossible(Exception):
    """A block holds what no ledger may let in, or what no client of a history sends."""


@dataclass(frozen=True, slots=True)
class State:
    """An account after a block."""

    balance: int
    nonce: int


@dataclass(slots=True)
class _Track:
    """An account's states, each from a height on."""

    heights: list[int]
    states: list[State]


@dataclass(frozen=True, slots=True)
class Sums:
    """All money after a block."""

    accounts: int
    locked: int


@dataclass(slots=True)
class _Holding:
    to: bytes
    digest: bytes
    left: int


@dataclass(slots=True)
class Model:
    """Accounts at every height of one chain, replayed one transaction after another."""

    genesis: Genesis
    height: int = 0
    sums: list[Sums] = field(default_factory=list)  # by height
    _tracks: dict[bytes, _Track] = field(default_factory=dict)
    _now: dict[bytes, State] = field(default_factory=dict)
    _holds: dict[bytes, _Holding] = field(default_factory=dict)
    _locked: int = 0

    def __post_init__(self) -> None:
        for each in self.genesis.allocations:
            self._now[each.account] = State(each.amount, 0)
        self._keep(self._now)

    def at(self, account: bytes, height: int) -> State:
        """An account after a block; at height 0 as the genesis made it."""
        track = self._tracks.get(account)
        if track is None or (place := bisect_right(track.heights, height)) == 0:
            return State(0, 0)
        return track.states[place - 1]

    def apply(self, transactions: Sequence[bytes]) -> list[bool]:
        """Replay the next block; says of each transaction whether it had its effect.

        Raises:
            Impossible: a nonce that is not the next one, a fee nobody has, an unknown kind.
        """
        before = dict(self._now)
        done = [self._execute(decode_transaction(raw)) for raw in transactions]
        self.height += 1
        self._keep({key: now for key, now in self._now.items() if before.get(key) != now})
        return done

    def _keep(self, changed: dict[bytes, State]) -> None:
        for account, state in changed.items():
            track = self._tracks.setdefault(account, _Track([], []))
            track.heights.append(self.height)
            track.states.append(state)
        accounts = sum(state.balance for state in self._now.values())
        self.sums.append(Sums(accounts, self._locked))

    def _execute(self, tx: Transaction) -> bool:
        sender = self._now.get(tx.sender, State(0, 0))
        if tx.nonce != sender.nonce:
            raise Impossible(f"nonce {tx.nonce} of {tx.sender.hex()[:8]}, next is {sender.nonce}")
        if tx.fee > sender.balance:
            raise Impossible(f"a fee of {tx.fee} from a balance of {sender.balance}")
        self._now[tx.sender] = State(sender.balance - tx.fee, sender.nonce + 1)
        self._add(TREASURY, tx.fee)
        if tx.kind not in _SHAPES:
            raise Impossible(f"a transaction of kind {tx.kind}")
        payload = decode(tx.payload, _SHAPES[tx.kind], size_max=TRANSACTION_BYTES_MAX)
        match payload:
            case Transfer():
                return self._transfer(tx.sender, payload)
            case Hold():
                return self._hold(tx.sender, payload)
            case Claim():
                return self._claim(payload)
            case _:
                raise AssertionError(payload)

    def _transfer(self, sender: bytes, payload: Transfer) -> bool:
        if payload.asset or payload.amount > self._now[sender].balance:
            return False
        self._add(sender, -payload.amount)
        self._add(payload.to, payload.amount)
        return True

    def _hold(self, sender: bytes, payload: Hold) -> bool:
        name = hold_id(self.genesis.chain_id, sender, payload)
        (branch,) = payload.branches
        if not isinstance(branch.condition, HashLock) or branch.vesting or payload.fallback:
            raise Impossible("a hold no client of a history makes")
        if name in self._holds or payload.amount > self._now[sender].balance:
            return False
        self._add(sender, -payload.amount)
        self._locked += payload.amount
        self._holds[name] = _Holding(branch.to, branch.condition.digest, payload.amount)
        return True

    def _claim(self, payload: Claim) -> bool:
        held = self._holds.get(payload.hold)
        if held is None or not held.left or payload.branch:
            return False
        if held.digest not in {sha256(each) for each in payload.preimages}:
            return False
        self._add(held.to, held.left)
        self._locked -= held.left
        held.left = 0
        return True

    def _add(self, account: bytes, amount: int) -> None:
        old = self._now.get(account, State(0, 0))
        self._now[account] = State(old.balance + amount, old.nonce)
