"""What one seed means: the network's size and stakes, who lies, and which faults happen.

Swarm testing: each fault is absent in part of the runs, so that none hides another.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from random import Random
from types import MappingProxyType
from typing import Final

import msgspec

from prsm.protocol.genesis import Parameters

TREE_BITS: Final = 4  # few accounts: a small tree costs less to build
STAKES: Final = ((1, 1, 1, 1), (3, 2, 2, 2), (1, 1, 1, 1, 1, 1, 1))
NODES_MIN: Final = 4
NODES_MAX: Final = 13
STAKE_MAX: Final = 5
STAKE_UNIT: Final = 1_000_000  # so that a part of it is something
# Bits flipped in log or guard; the guard gone; both files of an old backup; an empty disk.
DAMAGES: Final = ("flip", "guard", "backup", "wipe")
LEDGER: Final = "ledger"  # one that is damaged is put aside for an empty one; log, guard are whole
LIE: Final = "lie"  # syncs do nothing, then the power goes
DRIP: Final = "drip"  # answers of a liar come late, and hold next to nothing
KEYS: Final = 3  # of a node that rotates them
SETS_LATER: Final = 12
LIES: Final = 0.25  # of the harmed disks
LEDGERS: Final = 0.2  # of them
OPERATED: Final = 0.12  # of the small runs with money
SNAPSHOTS: Final = 0.4  # of the runs with money
TOGETHER: Final = 0.3  # of the runs: events are taken together, as a busy driver does
TURNS: Final = 0.3
OPERATED_MAX: Final = 5  # nodes: such a run has many blocks
SCRIPTS: Final = (
    "silent",
    "deaf",
    "equivocate",
    "double",
    "forget",
    "usurp",
    "replay",
    "invalid",
    "favour",
    "stale",
    "selective",
    "claim",
    "crown",
    "hints",
    "flood",
    "foreign",
    "relabel",
)


@dataclass(frozen=True, slots=True)
class Wish:
    """What a command asks of every seed it plays."""

    control: bool = False  # liars hold a third of the stake or more: agreement must break
    nodes: int | None = None
    faults: tuple[str, ...] | None = None  # these alone; None: each as it is drawn
    twins: bool = False  # scenarios of testnet/sim/twins


@dataclass(frozen=True, slots=True)
class Seat:
    """A member of a set."""

    node: int
    stake: int
    key: int  # which of its keys: it rotates through them


@dataclass(frozen=True, slots=True)
class Plan:
    """The run of one seed; probabilities are per message, in per mille."""

    seed: int
    stakes: tuple[int, ...]
    liars: tuple[int, ...]  # signer indexes
    scripts: tuple[str, ...]  # what every liar does
    parameters: Parameters
    faults_ms: int  # length of the faulty phase
    loss: int
    duplicate: int
    late: int  # duplicates that come much later
    storm: bool  # no PROPOSE and no NEW_VIEW arrives: views climb as fast as timeouts let them
    blackout: int  # of (kind, height, view, receiver): nothing of it arrives
    delay_ms: tuple[int, int]
    slow_links: int  # per mille of links ten times slower
    partitions: int  # how many in the run
    crashes: int
    power_cuts: int
    forgetful: int | None  # a node whose ledger lost its last blocks at a crash
    pauses: int
    skewed: tuple[int, ...]
    on_disk: bool  # the real log and guard on a faulty disk
    refusals: int  # writes that end with no room or an I/O error, on such disks
    damaged: int | None  # a node whose disk is harmed once, at a crash
    damage: str  # how: one of DAMAGES, LIE or LEDGER
    is_ed25519: bool  # real signatures: fifteen times slower, so one run in a hundred
    checkpoint_every: int  # heights between log segments, 0: never
    spares: int  # nodes that are no validators in the first epochs
    epoch_heights: int  # of the small ledger, 0: the first epoch never ends
    later: tuple[tuple[Seat, ...], ...]  # sets of the epochs from the third on
    has_money: bool  # the product's ledger under it, and transfers
    has_operators: bool  # who join, leave, rotate and change stakes by transactions
    snapshot_every: int = 0  # heights between snapshots of the product's ledger, 0: none
    jumps: int = 0  # of the wrong clocks, each
    turn_records: int = 0  # written between log segments begun in mid-height, 0: never
    turn_ms: int = 0  # at most, until a driver takes what came together; 0: each event alone


# What a plan says where a fault is left out, by the name a command gives it.
FAULTS: Final[Mapping[str, Mapping[str, object]]] = MappingProxyType(
    {
        "loss": {"loss": 0},
        "duplicate": {"duplicate": 0, "late": 0},
        "blackout": {"blackout": 0},
        "storm": {"storm": False},
        "slow": {"slow_links": 0, "delay_ms": (1, 2)},
        "partition": {"partitions": 0},
        "crash": {"crashes": 0},
        "power": {"power_cuts": 0},
        "forget": {"forgetful": None},
        "pause": {"pauses": 0},
        "skew": {"skewed": (), "jumps": 0},
        "disk": {"on_disk": False, "refusals": 0, "damaged": None},
        "liars": {"liars": ()},
        "money": {"has_money": False, "has_operators": False, "snapshot_every": 0},
        "snapshots": {"snapshot_every": 0},
        "epochs": {"spares": 0, "epoch_heights": 0, "later": (), "has_operators": False},
        "ed25519": {"is_ed25519": False},
        "segments": {"checkpoint_every": 0, "turn_records": 0},
        "turns": {"turn_ms": 0},
    }
)


def draw(seed: int, wish: Wish | None = None) -> Plan:
    """Draw a run.

    Args:
        seed: decides everything that the wish leaves open.
        wish: what else is asked for.
    """
    wish = wish or Wish()
    plan = _with_turns(_with_drip(_with_snapshots(_vary(_draw(seed, wish), wish))))
    if wish.faults is None:
        return plan
    for name, nothing in FAULTS.items():
        if name not in wish.faults and not (name == "liars" and wish.control):
            plan = replace(plan, **nothing)  # type: ignore[arg-type] # by name
    return plan


def _draw(seed: int, wish: Wish) -> Plan:
    dice = Random(seed)
    stakes = _stakes(dice, wish.nodes)
    control = wish.control
    if control:
        stakes = (1,) * (wish.nodes or NODES_MIN)
    liars = tuple(range((len(stakes) + 1) // 2)) if control else _liars(dice, stakes)
    scripts = tuple(name for name in SCRIPTS if dice.random() < 0.3) or ("double",)
    base_ms = dice.choice((100, 200, 400))
    storm = dice.random() < 0.02
    faults_ms = dice.randint(700, 2_600)
    if storm:
        base_ms, faults_ms = 100, dice.randint(6_000, 12_000)
    lo = dice.choice((1, 1, 2, 5))
    forgetful, skewed = _forgetful(dice, stakes, liars), _skewed(dice, stakes, liars)
    skewed = _beside(stakes, skewed, forgetful)
    has_money = dice.random() < 0.2
    on_disk = dice.random() < 0.18
    damaged = _damaged(dice, stakes, {*liars, *skewed}, forgetful) if on_disk else None
    has_epochs = not control and not has_money and dice.random() < 0.4
    spares = dice.randint(0, 2) if has_epochs else 0
    faulty = {*liars, *skewed} | {node for node in (forgetful, damaged) if node is not None}
    return Plan(
        seed=seed,
        stakes=stakes,
        liars=liars,
        scripts=("equivocate", "double") if control else scripts,
        parameters=Parameters(
            timeout_base_ms=base_ms,
            timeout_cap_ms=base_ms * 4,
            block_gap_min_ms=dice.choice((0, 10, 50, 150)),
            heartbeat_block_ms=dice.choice((500, 10_000)),
            tree_bits=TREE_BITS,
        ),
        faults_ms=faults_ms,
        loss=_sometimes(dice, 10, 150),
        duplicate=dice.randint(30, 200),
        late=_sometimes(dice, 10, 100),
        storm=storm,
        blackout=dice.choice((0, 0, 0, 100, 250, 400)),
        delay_ms=(lo, lo + dice.choice((1, 4, 20, 60))),
        slow_links=_sometimes(dice, 50, 300),
        partitions=_sometimes(dice, 1, 4),
        crashes=_sometimes(dice, 1, 8),
        power_cuts=1 if dice.random() < 0.15 else 0,
        forgetful=forgetful,
        pauses=_sometimes(dice, 1, 3),
        skewed=skewed,
        on_disk=on_disk,
        refusals=_sometimes(dice, 1, 6) if on_disk else 0,
        damaged=damaged,
        damage=dice.choice(DAMAGES),
        is_ed25519=seed % 100 == 99,
        checkpoint_every=dice.choice((0, 1, 3)),
        spares=spares,
        epoch_heights=dice.randint(1, 4) if has_epochs else 0,
        later=_later(dice, stakes, spares, frozenset(faulty)) if has_epochs else (),
        has_money=has_money,
        has_operators=False,
    )


def _vary(plan: Plan, wish: Wish) -> Plan:
    """Draw what was thought of later with dice of its own: earlier seeds keep their meaning."""
    dice = Random(f"{plan.seed} later")
    if plan.damaged is not None and dice.random() < LIES:
        plan = replace(plan, damage=LIE)
    is_small = len(plan.stakes) <= OPERATED_MAX and not wish.control
    if not plan.has_money or not is_small or dice.random() >= OPERATED:
        return plan
    low, high = plan.delay_ms
    return replace(
        plan,
        has_operators=True,
        spares=dice.randint(0, 2),
        faults_ms=dice.randint(3_500, 6_000),
        storm=False,
        blackout=0,
        loss=min(plan.loss, 50),
        delay_ms=(low, min(high, low + 4)),
        parameters=msgspec.structs.replace(
            plan.parameters,
            epoch_ms=1_000,
            block_gap_min_ms=dice.choice((0, 10)),
            heartbeat_block_ms=500,
            stake_min=STAKE_UNIT,
            unbonding_ms=dice.choice((200, 604_800_000)),
        ),
    )


def _with_snapshots(plan: Plan) -> Plan:
    """Draw whether nodes make and take snapshots, again with dice of its own."""
    dice = Random(f"{plan.seed} snapshots")
    if not plan.has_money or dice.random() >= SNAPSHOTS:
        return plan
    wipe = plan.damaged is not None and dice.random() < 0.8
    return replace(
        plan,
        snapshot_every=dice.randint(1, 4),
        damage="wipe" if wipe else plan.damage,
        # Blocks come often enough that who was away has missed some.
        faults_ms=max(plan.faults_ms, dice.randint(2_500, 4_500)),
        storm=False,
        blackout=0,
        loss=min(plan.loss, 30),
        delay_ms=(plan.delay_ms[0], min(plan.delay_ms[1], plan.delay_ms[0] + 4)),
        pauses=plan.pauses + 2,
        parameters=msgspec.structs.replace(
            plan.parameters, block_gap_min_ms=dice.choice((0, 10)), heartbeat_block_ms=500
        ),
    )


def _with_drip(plan: Plan) -> Plan:
    """Draw whether liars let their answers drip, and whether wrong clocks jump."""
    dice = Random(f"{plan.seed} drip")
    if plan.liars and dice.random() < 0.25:
        plan = replace(plan, scripts=(*plan.scripts, DRIP))
    jumps = dice.randint(1, 3) if plan.skewed and dice.random() < 0.6 else 0
    return replace(plan, jumps=jumps)


def _with_turns(plan: Plan) -> Plan:
    """Draw whether logs turn to a new segment in mid-height, and whether drivers take turns.

    And, of the harmed disks, which lose a ledger.
    """
    dice = Random(f"{plan.seed} turns")
    if dice.random() < TURNS:
        plan = replace(plan, turn_records=dice.randint(1, 6))
    if plan.damaged is not None and Random(f"{plan.seed} ledger").random() < LEDGERS:
        plan = replace(plan, damage=LEDGER)
    dice = Random(f"{plan.seed} together")
    return replace(plan, turn_ms=dice.choice((1, 2, 5))) if dice.random() < TOGETHER else plan


def faulty_of(plan: Plan) -> frozenset[int]:
    """The nodes that count against the faulty third."""
    found = {*plan.liars, *plan.skewed}
    return frozenset(found | {each for each in (plan.forgetful, plan.damaged) if each is not None})


def _later(
    dice: Random, stakes: tuple[int, ...], spares: int, faulty: frozenset[int]
) -> tuple[tuple[Seat, ...], ...]:
    """Sets that follow each other: stakes change, nodes join and leave, keys rotate."""
    seats = {node: Seat(node, stake, 0) for node, stake in enumerate(stakes)}
    sets = []
    for _ in range(SETS_LATER):
        changed = dict(seats)
        for _ in range(dice.randint(0, 3)):
            node = dice.randrange(len(stakes) + spares)
            seat = changed.get(node)
            if seat is None:
                changed[node] = Seat(node, dice.randint(1, STAKE_MAX), 0)
            elif (what := dice.randrange(3)) == 0:
                del changed[node]
            elif what == 1:
                changed[node] = replace(seat, stake=dice.randint(1, STAKE_MAX))
            else:
                changed[node] = replace(seat, key=min(seat.key + 1, KEYS - 1))
        total = sum(seat.stake for seat in changed.values())
        weight = sum(changed[node].stake for node in sorted(faulty) if node in changed)
        if len(changed) >= NODES_MIN and 3 * weight < total:
            seats = changed
        sets.append(tuple(seats.values()))
    return tuple(sets)


def _sometimes(dice: Random, low: int, high: int) -> int:
    return dice.randint(low, high) if dice.random() < 0.6 else 0


def _stakes(dice: Random, nodes: int | None) -> tuple[int, ...]:
    if nodes is None and dice.random() < 0.68:
        return dice.choice((*STAKES, STAKES[0], STAKES[1]))
    is_large = dice.random() < 0.1  # they cost most: messages grow with the square
    low, high = (8, NODES_MAX) if is_large else (NODES_MIN, 7)
    most = dice.choice((1, STAKE_MAX, STAKE_MAX))
    return tuple(dice.randint(1, most) for _ in range(nodes or dice.randint(low, high)))


def _liars(dice: Random, stakes: tuple[int, ...]) -> tuple[int, ...]:
    """Liars below a third of the stake, none in a part of the runs."""
    if dice.random() < 0.35:
        return ()
    total, weight, liars = sum(stakes), 0, []
    for index in dice.sample(range(len(stakes)), len(stakes)):
        if 3 * (weight + stakes[index]) < total:
            weight += stakes[index]
            liars.append(index)
    return tuple(sorted(liars))


def _forgetful(dice: Random, stakes: tuple[int, ...], liars: tuple[int, ...]) -> int | None:
    """A node whose ledger loses blocks counts against the faulty third as well."""
    chosen = dice.randrange(len(stakes))
    faulty = sum(stakes[index] for index in {*liars, chosen})
    return chosen if dice.random() < 0.4 and 3 * faulty < sum(stakes) else None


def _damaged(
    dice: Random, stakes: tuple[int, ...], faulty: set[int], forgetful: int | None
) -> int | None:
    """A node with a harmed disk signs nothing, so it counts against the faulty third."""
    chosen = dice.randrange(len(stakes))
    faulty = faulty | {chosen} | (set() if forgetful is None else {forgetful})
    fits = 3 * sum(stakes[index] for index in sorted(faulty)) < sum(stakes)
    return chosen if fits and dice.random() < 0.6 else None


def _skewed(dice: Random, stakes: tuple[int, ...], liars: tuple[int, ...]) -> tuple[int, ...]:
    """Nodes with a wrong wall clock count against the faulty third: their verdicts are lost."""
    if liars or dice.random() < 0.6:
        return ()
    return _liars(dice, stakes)


def _beside(
    stakes: tuple[int, ...], skewed: tuple[int, ...], forgetful: int | None
) -> tuple[int, ...]:
    """The skewed nodes that stay below a third of the stake together with the forgetful one."""
    faulty = set() if forgetful is None else {forgetful}
    for node in skewed:
        if 3 * sum(stakes[index] for index in sorted(faulty | {node})) < sum(stakes):
            faulty.add(node)
    return tuple(node for node in skewed if node in faulty)


def peer_of(index: int) -> str:
    """Peer id of a node of a run."""
    return f"peer{index}"


@lru_cache(maxsize=64)  # asked several times for each message
def index_of(peer: str) -> int:
    """The node of a run with this peer id."""
    return int(peer.removeprefix("peer"))
