"""Twins: scenarios of unmodified copies with one key, by number, enumerated and at random.

A Byzantine validator is two or three honest programs that do not know of each other. Scenarios
come in trees: a beginning of some rounds, then every way (`LEAVES`) a last round can go. Trees
of even number enumerate leader x partition x round for four validators and one twin; trees of
odd number draw sizes, stakes, copies and the rounds.
Source: Bano et al., "Twins: BFT Systems Made Robust" (OPODIS 2021); docs/spec/pbft.md, "Twins".
"""

from collections.abc import Iterator
from itertools import groupby
from random import Random
from typing import Final

from prsm.protocol.genesis import Genesis
from prsm.protocol.signing import Kind
from prsm.protocol.validators import Validator
from prsm.testnet.sim.copies import PARAMETERS, Copies, Round
from prsm.testnet.sim.plan import Wish, peer_of
from prsm.testnet.sim.signing import KeyedSigner, KeyedVerifier
from prsm.testnet.sim.world import Outcome

WITHHELD: Final = (Kind.PREPARE, Kind.COMMIT, Kind.VIEW_CHANGE)
_COPIES: Final = 5  # of the enumerated trees: four validators, one of them twice
_PARTITIONS: Final = 2 ** (_COPIES - 1)
_KEEPINGS: Final = 1 + len(WITHHELD) * _COPIES
LEAVES: Final = _PARTITIONS * _KEEPINGS
_BEGINNINGS: Final = 4 * LEAVES**2  # leader of view 0 x two rounds
_STRIDE: Final = 104_729  # odd, so each beginning comes once; far, so few trees see many of them
assert LEAVES == 256
EPOCHS_SHARE: Final = 0.4  # of the drawn trees
EPOCH_HEIGHTS: Final = 2
LATER_SETS: Final = 8
_STAKES: Final[tuple[tuple[int, ...], ...]] = (
    (1, 1, 1, 1),
    (3, 2, 2, 2),
    (1, 1, 1, 1, 1, 1, 1),
    (2, 1, 1, 1, 1),
)


def play(numbers: range, wish: Wish) -> Iterator[Outcome]:
    """Play scenarios; consecutive numbers share what they have in common."""
    for tree, group in groupby(numbers, key=lambda number: number // LEAVES):
        yield from _play_tree(tree, list(group), wish)


def _play_tree(tree: int, numbers: list[int], wish: Wish) -> Iterator[Outcome]:
    try:
        root, leaves = _grow(tree, wish)
    except Exception as error:  # noqa: BLE001 - any failure belongs to its scenario
        yield _failed(numbers[0], error)
        return
    shared = root.events
    for number in numbers:
        scenario = root.fork()
        scenario.events, shared = shared, 0
        try:
            if not scenario.violations:
                scenario.play(leaves[number % LEAVES])
        except Exception as error:  # noqa: BLE001 - as above
            yield _failed(number, error)
            continue
        yield Outcome(
            number, scenario.events, scenario.height(), scenario.now_ms, 0, scenario.violations
        )


def _failed(number: int, error: Exception) -> Outcome:
    what = f"the code under test raised {type(error).__name__}: {error}"
    return Outcome(number, 0, 0, 0, None, [what])


def _grow(tree: int, wish: Wish) -> tuple[Copies, list[Round]]:
    """The beginning of a tree, played, and its last rounds."""
    if tree % 2 or wish.control or wish.nodes:
        return _draw(tree, wish)
    at = tree // 2 * _STRIDE % _BEGINNINGS
    at, twin = divmod(at, 4)
    first, second = divmod(at, LEAVES)
    root = _start((1, 1, 1, 1), (0, 1, 2, 3, twin))
    for digit in (first, second):
        root.play(_numbered(digit))
    return root, [_numbered(digit) for digit in range(LEAVES)]


def _numbered(digit: int) -> Round:
    keeping, partition = divmod(digit, _PARTITIONS)
    groups = (0, *(partition >> bit & 1 for bit in range(_COPIES - 1)))
    if keeping == 0:
        return Round(groups)
    kind, only = divmod(keeping - 1, _COPIES)
    return Round(groups, WITHHELD[kind], only)


def _draw(tree: int, wish: Wish) -> tuple[Copies, list[Round]]:
    dice = Random(tree)
    nodes = wish.nodes
    if nodes is None and dice.random() < 0.6:
        stakes = dice.choice(_STAKES)
    else:
        count = nodes or dice.randint(4, 7)
        stakes = tuple(dice.randint(1, 5) for _ in range(count))
    twins = _twins(dice, stakes, control=wish.control)
    keys = list(range(len(stakes)))
    for twin in twins:
        keys += [twin] * dice.choice((1, 1, 1, 2))
    later: list[tuple[int, ...]] = []
    if dice.random() < EPOCHS_SHARE and not wish.control:
        for _ in range(LATER_SETS):  # twins never weigh more, the others never less
            rest = (
                each if i in twins else each + dice.randint(0, 3) for i, each in enumerate(stakes)
            )
            later.append(tuple(rest))
    root = _start(stakes, tuple(keys), *later)
    for _ in range(dice.randint(1, 5)):
        root.play(_drawn(dice, keys))
    return root, [_drawn(dice, keys) for _ in range(LEAVES)]


def _twins(dice: Random, stakes: tuple[int, ...], *, control: bool) -> list[int]:
    """Keys of as much stake as may lie; with `control`, of the least that is too much."""
    total, weight, twins = sum(stakes), 0, []
    for index in dice.sample(range(len(stakes)), len(stakes)):
        fits = 3 * (weight + stakes[index]) < total
        if fits or (control and 3 * weight <= total):
            weight += stakes[index]
            twins.append(index)
    return twins


def _drawn(dice: Random, keys: list[int]) -> Round:
    count = len(keys)
    if dice.random() < 0.2:
        groups = (0,) * count
    else:
        most = dice.choice((1, 1, 1, 2))
        groups = tuple(dice.randint(0, most) for _ in range(count))
    if dice.random() < 0.5:
        return Round(groups)
    return Round(groups, dice.choice(WITHHELD), dice.randrange(count))


def _start(stakes: tuple[int, ...], keys: tuple[int, ...], *later: tuple[int, ...]) -> Copies:
    """Cores at genesis; `later` are the stakes of the epochs from the third on, of two heights."""
    signers = [KeyedSigner(0, index) for index in range(len(stakes))]
    genesis = Genesis(1, "twins", True, 0, _members(signers, stakes), (), PARAMETERS)  # noqa: FBT003 - field `development`
    borders = {
        EPOCH_HEIGHTS * (1 + number): _members(signers, each) for number, each in enumerate(later)
    }
    return Copies.start(genesis, signers, KeyedVerifier(signers), keys, borders)


def _members(signers: list[KeyedSigner], stakes: tuple[int, ...]) -> tuple[Validator, ...]:
    return tuple(
        Validator(bytes([index + 1]) * 32, signer.public_key, peer_of(index), stake)
        for index, (signer, stake) in enumerate(zip(signers, stakes, strict=True))
    )
