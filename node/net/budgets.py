"""How much of each class of traffic a peer may use, in bytes, messages and calls: token buckets.

Knows classes, rates and times handed in, all integers. Must not know streams, clocks or what a
message means. Who is over its budget waits, a call over it is refused with a time, and who goes on
regardless gets points (`scores`); nothing of consensus is thrown away here.

Invariants: of a bucket at most `burst + per_s * t` leaves within any t seconds, and one thing more
that was there already; what is kept of a peer has a fixed size, of all peers a bound.
"""

from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Final

from prsm.protocol.ids import PeerId
from prsm.protocol.limits import MIB

REMEMBERED_MAX: Final = 1024  # lost peers whose buckets are kept, so that dialling anew fills none

STRAIN_MS_MAX: Final = 10_000  # of waiting that is forgiven: ten seconds over its budget, once
STRAIN_FADES: Final = 2  # of this many ms one is forgotten
STRAIN_POINTS: Final = 10  # for each further second: a ban (100) after ten of them
CALM_MS: Final = 3  # an answer of a validator beside us takes about one
PATIENCE_MS: Final = 25  # a round of four nodes on two cores takes 13

REFUSED_STRAIN_MS: Final = 10  # of a call refused; 50 a second are forgiven for ever


class Traffic(IntEnum):
    """A class of traffic; the lower one goes first."""

    CONSENSUS = 0  # `ctl`: votes, requests, heartbeats
    INFERENCE = 1  # `bulk`: tensors, results, blocks of the chain
    STORAGE = 2  # `range`: blocks of models


class Standing(Enum):
    """What a peer is to this node."""

    VALIDATOR = "validator"  # of the present set
    OTHER = "other"  # anybody who has shaken hands


@dataclass(frozen=True, slots=True)
class Rate:
    """So many return each second, and so many may be used at once."""

    per_s: int
    burst: int


@dataclass(frozen=True, slots=True)
class Budget:
    """What one peer may send of one class, and what it is sent (bytes only)."""

    bytes: Rate
    messages: Rate
    calls: Rate
    bytes_out: Rate


@dataclass(frozen=True, slots=True)
class StorageLimits:
    """What the operator allows blocks of models, bytes a second; 0: no limit.

    Attributes:
        upload: all peers together, on the way out.
        download: on the way in.
        peer_upload: each peer.
        peer_download: each peer.
    """

    upload: int = 0
    download: int = 0
    peer_upload: int = 0
    peer_download: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """What the operator allows all peers together, without consensus; 0: no limit.

    Attributes:
        upload_bytes_per_s: on the way out.
        download_bytes_per_s: on the way in.
        storage: of these, blocks of models (`throttle`).
    """

    upload_bytes_per_s: int = 0
    download_bytes_per_s: int = 0
    storage: StorageLimits = StorageLimits()


NO_LIMITS: Final = Limits()

# Anybody gets a line of 1 Gbit/s for tensors and blocks, a validator one of 10. A thousand
# transactions take 0.2 MiB; the largest block, a proposal of 1 MiB, comes 14 times a second at
# most, and of 32 validators each says three short things about it.
_LINE: Final = Rate(120 * MIB, 64 * MIB)
_WIDE_LINE: Final = Rate(1_200 * MIB, 256 * MIB)
BUDGETS: Final[Mapping[Standing, Mapping[Traffic, Budget]]] = {
    Standing.VALIDATOR: {
        Traffic.CONSENSUS: Budget(
            bytes=Rate(64 * MIB, 128 * MIB),
            messages=Rate(10_000, 20_000),
            calls=Rate(5_000, 10_000),
            bytes_out=_WIDE_LINE,
        ),
        Traffic.INFERENCE: Budget(
            _WIDE_LINE, Rate(20_000, 40_000), Rate(5_000, 10_000), _WIDE_LINE
        ),
        Traffic.STORAGE: Budget(_WIDE_LINE, Rate(20_000, 40_000), Rate(5_000, 10_000), _WIDE_LINE),
    },
    Standing.OTHER: {
        Traffic.CONSENSUS: Budget(
            bytes=Rate(4 * MIB, 16 * MIB),
            messages=Rate(500, 1_000),
            calls=Rate(200, 400),
            bytes_out=_LINE,
        ),
        Traffic.INFERENCE: Budget(_LINE, Rate(5_000, 10_000), Rate(200, 400), _LINE),
        Traffic.STORAGE: Budget(_LINE, Rate(2_000, 4_000), Rate(1_000, 2_000), _LINE),
    },
}


class Bucket:
    """Tokens that return with time; what was used beyond them is owed.

    Args:
        rate: of return, and how many it holds, which is what it begins with.
        now_ms: monotonic.
    """

    __slots__ = ("_at_ms", "_milli", "_rate")

    def __init__(self, rate: Rate, *, now_ms: int) -> None:
        self._rate = rate
        self._milli = rate.burst * 1000
        self._at_ms = now_ms

    def charge(self, amount: int, *, now_ms: int) -> int:
        """Use tokens, owing what is missing; returns ms until nothing is owed any more."""
        self._refill(now_ms)
        self._milli -= amount * 1000
        return self._wait_ms(0)

    def take(self, amount: int, *, now_ms: int) -> int:
        """Use tokens if they are there: 0; otherwise use none, and return ms until they are."""
        self._refill(now_ms)
        wait_ms = self._wait_ms(amount * 1000)
        if not wait_ms:
            self._milli -= amount * 1000
        return wait_ms

    def change(self, rate: Rate, *, now_ms: int) -> None:
        """Go on at another rate; what is owed stays owed."""
        self._refill(now_ms)
        if self._milli > 0:
            grown = (rate.burst - self._rate.burst) * 1000
            self._milli = max(0, self._milli + grown)
        self._rate = rate

    def _refill(self, now_ms: int) -> None:
        grown = self._milli + max(0, now_ms - self._at_ms) * self._rate.per_s
        self._milli = min(self._rate.burst * 1000, grown)
        self._at_ms = max(self._at_ms, now_ms)

    def _wait_ms(self, milli: int) -> int:
        return max(0, -((self._milli - milli) // self._rate.per_s))


class Strain:
    """How long a peer was over its budgets of consensus: forgiven, then points, then a ban."""

    __slots__ = ("_at_ms", "_ms")

    def __init__(self, *, now_ms: int) -> None:
        self._ms = 0
        self._at_ms = now_ms

    def add(self, wait_ms: int, *, now_ms: int) -> int:
        """Count a wait; returns the points it is worth, mostly 0."""
        faded = max(0, now_ms - self._at_ms) // STRAIN_FADES
        self._ms = max(0, self._ms - faded) + wait_ms
        self._at_ms += faded * STRAIN_FADES
        seconds = max(0, self._ms - STRAIN_MS_MAX) // 1000
        self._ms -= seconds * 1000
        return seconds * STRAIN_POINTS


class Patience:
    """How long everything else holds its breath while agreement is being talked about.

    A round is a dozen short messages on every node, and each waits for the processor the last
    block of a model is still encrypted on. So for `CALM_MS` after a word of consensus nothing else
    is handled, for `PATIENCE_MS` at most; that comes back at half the pace of calm. Under votes
    without an end nothing waits.
    """

    __slots__ = ("_left_half_ms", "_loud_until_ms")

    def __init__(self) -> None:
        self._loud_until_ms = 0
        self._left_half_ms = 2 * PATIENCE_MS

    def stir(self, *, now_ms: int) -> None:
        """Something of consensus came or leaves."""
        calm_ms = max(0, now_ms - self._loud_until_ms)
        self._left_half_ms = min(2 * PATIENCE_MS, self._left_half_ms + calm_ms)
        self._loud_until_ms = max(self._loud_until_ms, now_ms + CALM_MS)

    def wait_ms(self, *, now_ms: int) -> int:
        """How long to wait before asking again; 0: go on. What it says is taken for waited."""
        wait_ms = min(self._loud_until_ms - now_ms, self._left_half_ms // 2)
        if wait_ms <= 0:
            return 0
        self._left_half_ms -= 2 * wait_ms
        return wait_ms


@dataclass(slots=True)
class _Meter:
    """The buckets of one class."""

    bytes: Bucket
    messages: Bucket
    calls: Bucket
    bytes_out: Bucket


class Account:
    """What one peer may still use; kept beyond its connection.

    Args:
        standing: decides its budgets.
        now_ms: monotonic.
    """

    __slots__ = ("_meters", "_strain", "standing")

    def __init__(self, standing: Standing, *, now_ms: int) -> None:
        self.standing = standing
        self._strain = Strain(now_ms=now_ms)
        self._meters = tuple(
            _Meter(
                Bucket(budget.bytes, now_ms=now_ms),
                Bucket(budget.messages, now_ms=now_ms),
                Bucket(budget.calls, now_ms=now_ms),
                Bucket(budget.bytes_out, now_ms=now_ms),
            )
            for budget in (BUDGETS[standing][traffic] for traffic in Traffic)
        )

    def read(self, traffic: Traffic, size: int, *, now_ms: int) -> int:
        """Bytes arrived: ms to wait before reading on."""
        return self._meters[traffic].bytes.charge(size, now_ms=now_ms)

    def heard(self, traffic: Traffic, *, now_ms: int) -> int:
        """A message arrived: ms to wait before reading on."""
        return self._meters[traffic].messages.charge(1, now_ms=now_ms)

    def called(self, traffic: Traffic, *, now_ms: int) -> int:
        """A call arrived: 0 to serve it, otherwise ms after which it may be tried again."""
        return self._meters[traffic].calls.take(1, now_ms=now_ms)

    def write(self, traffic: Traffic, size: int, *, now_ms: int) -> int:
        """Bytes are to leave: ms to wait first; consensus never waits."""
        if traffic is Traffic.CONSENSUS:
            return 0
        return self._meters[traffic].bytes_out.charge(size, now_ms=now_ms)

    def strained(self, wait_ms: int, *, now_ms: int) -> int:
        """The peer was made to wait, or refused: the points that is worth."""
        return self._strain.add(wait_ms, now_ms=now_ms)

    def become(self, standing: Standing, *, now_ms: int) -> None:
        """Take other budgets; what is owed stays owed."""
        if standing is self.standing:
            return
        self.standing = standing
        for traffic, meter in zip(Traffic, self._meters, strict=True):
            budget = BUDGETS[standing][traffic]
            meter.bytes.change(budget.bytes, now_ms=now_ms)
            meter.messages.change(budget.messages, now_ms=now_ms)
            meter.calls.change(budget.calls, now_ms=now_ms)
            meter.bytes_out.change(budget.bytes_out, now_ms=now_ms)


class Accounts:
    """The accounts of all peers: of the live ones, and of the last ones that went away."""

    def __init__(self) -> None:
        self._live: dict[PeerId, tuple[Account, int]] = {}  # and how many conversations it has
        self._lost: OrderedDict[PeerId, Account] = OrderedDict()
        self._validators: frozenset[PeerId] = frozenset()

    def __len__(self) -> int:
        """How many peers it keeps something of."""
        return len(self._live) + len(self._lost)

    def open(self, peer: PeerId, *, now_ms: int) -> Account:
        """The account of a peer that talks to us now; once for each `close`."""
        known = self._live.get(peer)
        account = known[0] if known else self._lost.pop(peer, None)
        if account is None:
            account = Account(self._standing(peer), now_ms=now_ms)
        account.become(self._standing(peer), now_ms=now_ms)
        self._live[peer] = (account, known[1] + 1 if known else 1)
        return account

    def close(self, peer: PeerId) -> None:
        """One conversation with it has ended."""
        account, count = self._live[peer]
        if count > 1:
            self._live[peer] = (account, count - 1)
            return
        del self._live[peer]
        self._lost[peer] = account
        if len(self._lost) > REMEMBERED_MAX:
            self._lost.popitem(last=False)

    def trust(self, validators: Collection[PeerId], *, now_ms: int) -> None:
        """Say who the validators are from now on."""
        if (members := frozenset(validators)) == self._validators:
            return
        self._validators = members
        for peer, (account, _) in self._live.items():
            account.become(self._standing(peer), now_ms=now_ms)

    def is_validator(self, peer: PeerId) -> bool:
        """Whether it is of the present set."""
        return peer in self._validators

    def _standing(self, peer: PeerId) -> Standing:
        return Standing.VALIDATOR if peer in self._validators else Standing.OTHER
