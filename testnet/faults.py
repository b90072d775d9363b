"""What can be done to a network: kinds of faults, whom they are about, which ways they close; pure.

Knows: places of nodes, conditions of ways, dice that are handed in. Must not know: processes or
sockets; `perturb` carries faults out. A fault of links is a layer over what the links have anyway;
layers that overlap add up, and each is taken back alone.
"""

import random
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import permutations
from typing import Final

from prsm.testnet.proxy import CLEAR, STALLED, Conditions, Pair

LOSSY: Final = Conditions(delay_ms=10, jitter_ms=20, loss=0.1)
SLOW: Final = Conditions(delay_ms=100, jitter_ms=100, bytes_per_s=200_000)
HOUR_MS: Final = 3_600_000
SKEWS_MS: Final = (HOUR_MS, -HOUR_MS, 3_000, -3_000)  # beyond the window of proposals, and within
PERIOD_SECONDS: Final = 2.0
TWO_AT_ONCE: Final = 0.25  # share of random rounds

Layer = Mapping[Pair, Conditions]


class Kind(Enum):
    """What can be done; the value is the word of manifests and reports."""

    KILL = "kill"  # SIGKILL, started again
    PAUSE = "pause"  # SIGSTOP, then SIGCONT
    ISOLATE = "isolate"  # nodes, each alone, against all others
    SPLIT = "partition"  # groups that do not hear one another
    FLAP = "flapping"  # the same, on and off
    SILENCE = "one-way"  # nodes hear all and nobody hears them
    LOSS = "loss"  # chunks lost, on every link or on those of some nodes
    SLOW = "delay"  # late, and less bandwidth
    CUT = "cut"  # all connections of a node reset
    CLOCK = "clock"  # a wall clock jumps
    BLACKOUT = "blackout"  # SIGKILL of all nodes at once
    DISK_FULL = "disk-full"  # no file of a node grows
    FLOOD = "flood"  # a stranger sends ten times what is allowed
    BYZANTINE = "byzantine"  # a validator lies in agreement for a while
    UPGRADE = "upgrade"  # ended by SIGTERM, started as this version of the program


class Lie(Enum):
    """How a Byzantine validator lies."""

    EQUIVOCATE = "equivocate"  # two blocks for one place, two votes of one kind
    SILENT = "silent"  # it follows, and says nothing
    BAD_BLOCKS = "bad-blocks"  # it proposes what no ledger executes


# What can be drawn again and again without leaving a node punished for good.
PASSING: Final = (
    Kind.KILL, Kind.PAUSE, Kind.ISOLATE, Kind.SPLIT, Kind.SILENCE,
    Kind.LOSS, Kind.SLOW, Kind.CUT, Kind.CLOCK, Kind.BLACKOUT,
)  # fmt: skip
PARTITIONS: Final = frozenset((Kind.ISOLATE, Kind.SPLIT, Kind.FLAP, Kind.SILENCE))
OF_LINKS: Final = PARTITIONS | {Kind.LOSS, Kind.SLOW, Kind.CUT}


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing done for a while.

    Attributes:
        places: of the nodes it is about; none: of all, where that makes sense.
        seconds: how long; a killed node comes back then.
        groups: of a partition; a node in no group is alone.
        conditions: of lossy or slow links.
        period_s: of a flapping partition, half of it closed.
        skew_ms: of a wall clock.
        lie: of a Byzantine validator.
    """

    kind: Kind
    places: tuple[int, ...] = ()
    seconds: float = 2.0
    groups: tuple[tuple[int, ...], ...] = ()
    conditions: Conditions = CLEAR
    period_s: float = PERIOD_SECONDS
    skew_ms: int = HOUR_MS
    lie: Lie = Lie.SILENT


@dataclass(frozen=True, slots=True)
class Round:
    """What happens at once, and how long nothing happens afterwards."""

    faults: tuple[Fault, ...]
    rest_seconds: float


def layer_of(fault: Fault, count: int) -> dict[Pair, Conditions]:
    """What a fault does to the ways between `count` nodes while it lasts; nothing if not of links.

    Ways are (sender, receiver).
    """
    ways = list(permutations(range(count), 2))
    touched = set(fault.places or range(count))
    match fault.kind:
        case Kind.ISOLATE:
            return {way: STALLED for way in ways if touched & set(way)}
        case Kind.SPLIT | Kind.FLAP:
            home = {place: number for number, group in enumerate(fault.groups) for place in group}
            return {
                (sender, receiver): STALLED
                for sender, receiver in ways
                if home.get(sender, ~sender) != home.get(receiver, ~receiver)
            }
        case Kind.SILENCE:
            return {way: STALLED for way in ways if way[0] in touched}
        case Kind.LOSS | Kind.SLOW:
            usual = LOSSY if fault.kind is Kind.LOSS else SLOW
            conditions = usual if fault.conditions == CLEAR else fault.conditions
            return {way: conditions for way in ways if touched & set(way)}
        case _:
            return {}


def joined(one: Conditions, other: Conditions) -> Conditions:
    """What two layers do to a way together: delays add up, the narrower one bounds."""
    rates = [each.bytes_per_s for each in (one, other) if each.bytes_per_s]
    return Conditions(
        delay_ms=one.delay_ms + other.delay_ms,
        jitter_ms=one.jitter_ms + other.jitter_ms,
        loss=1 - (1 - one.loss) * (1 - other.loss),
        bytes_per_s=min(rates, default=0),
        is_stalled=one.is_stalled or other.is_stalled,
    )


def stacked(base: Layer, layers: Iterable[Layer], count: int) -> dict[Pair, Conditions]:
    """The conditions of every way under what the links have and all faults at once."""
    found = {way: base.get(way, CLEAR) for way in permutations(range(count), 2)}
    for layer in layers:
        for way, conditions in layer.items():
            found[way] = joined(found[way], conditions)
    return found


def cut_off(ways: Layer, voters: Collection[int], count: int) -> frozenset[int]:
    """Nodes that nobody can show a new block: whoever reaches them is no quorum of the voters.

    What a node hears may come through others, so reach is transitive. Voters weigh the same.
    """
    faulty = (len(voters) - 1) // 3
    heard: dict[int, set[int]] = {place: {place} for place in range(count)}
    has_changed = True
    while has_changed:
        has_changed = False
        for (sender, receiver), conditions in ways.items():
            if not conditions.is_stalled and not heard[sender] <= heard[receiver]:
                heard[receiver] |= heard[sender]
                has_changed = True
    quorum = len(voters) - faulty
    return frozenset(p for p in range(count) if len(heard[p] & set(voters)) < quorum)


def schedule(
    seed: int, nodes: int, *, kinds: Sequence[Kind] = PASSING, scale: float = 1.0
) -> Iterator[Round]:
    """Draw rounds without end: each cycle has every kind once, in an order of its own.

    Args:
        seed: the same seed gives the same rounds.
        nodes: how many there are.
        kinds: which.
        scale: of all durations.
    """
    dice = random.Random(f"{seed} faults")
    first = True
    while True:
        order = list(kinds)
        dice.shuffle(order)
        for kind in order:
            drawn = [draw(dice, kind, nodes)]
            if not first and dice.random() < TWO_AT_ONCE:
                drawn.append(draw(dice, dice.choice(order), nodes))
            seconds = scale * dice.uniform(0.6, 2.0)
            yield Round(
                faults=tuple(replace(fault, seconds=seconds) for fault in drawn),
                rest_seconds=scale * dice.uniform(0.3, 1.5),
            )
        first = False


def draw(dice: random.Random, kind: Kind, nodes: int) -> Fault:
    """Draw whom a kind of fault is about; a random partition has two halves."""
    place, others = dice.randrange(nodes), list(range(nodes))
    dice.shuffle(others)
    half = len(others) // 2
    return Fault(
        kind,
        places=() if kind in {Kind.LOSS, Kind.SLOW, Kind.BLACKOUT} else (place,),
        groups=(tuple(others[:half]), tuple(others[half:])),
        skew_ms=dice.choice(SKEWS_MS),
        lie=dice.choice(tuple(Lie)),
    )
