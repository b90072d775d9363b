"""Who may propose at a height and view: weighted round robin, sticky, passing dead proposers.

All inputs come from the chain; a local certificate may carry another view than the one the
next block holds, and a schedule made from it would fork. The ledger keeps `Turns` in its state,
so that a snapshot proves them. Source: docs/spec/pbft.md, "Proposer schedule".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Final

import msgspec

from prsm.protocol.codec import Record
from prsm.protocol.ids import U32, Bytes32, UInt
from prsm.protocol.limits import VALIDATORS_MAX
from prsm.protocol.validators import ValidatorSet

STICKY_HEIGHTS: Final = 10  # a changed proposer costs nothing, a dead one two timeouts
# The exact sequence repeats after T / gcd of the stakes, which may be 10^15; cut here it is
# off by less than a thousandth of the total.
SEQUENCE_MAX: Final = 1024
# A height may fail in thousands of views while a network is down: that says nothing more of
# anybody than two rounds of all members do.
VIEWS_BLAMED_MAX: Final = 2 * VALIDATORS_MAX
BLAME_MAX: Final = 2**31


class Blame(Record, frozen=True):
    """How many views an operator's turn failed in an epoch."""

    operator: Bytes32
    views: U32


_Indexes = Annotated[tuple[U32, ...], msgspec.Meta(max_length=VALIDATORS_MAX)]
_Blames = Annotated[tuple[Blame, ...], msgspec.Meta(max_length=VALIDATORS_MAX)]


class Turns(Record, frozen=True):
    """What the schedule takes from the chain, after some block h of an epoch."""

    failed_views: UInt  # a(h + 1): sum of the views of `prev_cert` in blocks h0 + 1 .. h
    last_view: U32  # of `prev_cert` in block h, 0 at h0: a(h) = failed_views - last_view
    failures: _Indexes  # by signer index: views of this epoch that failed at its turn
    earlier: _Blames  # the same of the epoch before, by operator
    skipped: _Indexes  # signer indexes without a turn in this epoch, ascending


@dataclass(frozen=True, slots=True)
class Schedule:
    """The proposers of one height, by view."""

    sequence: bytes  # signer indexes
    offset: int

    def at(self, view: int) -> int:
        """Signer index of the proposer in this view."""
        return self.sequence[(self.offset + view) % len(self.sequence)]


def first_turns(validators: ValidatorSet) -> Turns:
    """Before the first block of the network."""
    return Turns(
        failed_views=0, last_view=0, failures=(0,) * len(validators), earlier=(), skipped=()
    )


def schedule_of(validators: ValidatorSet, turns: Turns, *, height: int, first: int) -> Schedule:
    """The proposers of a height; `turns` are those after height - 1, `first` is h0."""
    return _schedule(validators, turns.skipped, turns.failed_views, height - first)


def turns_after(
    turns: Turns, validators: ValidatorSet, *, height: int, first: int, prev_view: int
) -> Turns:
    """The turns once block `height` is executed.

    Args:
        turns: before it.
        validators: of its epoch.
        height: of the block.
        first: h0, the first height of the epoch.
        prev_view: view of the block's `prev_cert`; 0 if it has none.
    """
    if height <= first:  # its parent's failures belong to the epoch before, which is counted
        return turns
    past = turns.failed_views - turns.last_view
    schedule = _schedule(validators, turns.skipped, past, height - 1 - first)
    failures = list(turns.failures)
    for view in range(min(prev_view, VIEWS_BLAMED_MAX)):
        index = schedule.at(view)
        failures[index] = min(failures[index] + 1, BLAME_MAX)
    return Turns(
        failed_views=turns.failed_views + prev_view,
        last_view=prev_view,
        failures=tuple(failures),
        earlier=turns.earlier,
        skipped=turns.skipped,
    )


def turns_of_next(turns: Turns, ending: ValidatorSet, beginning: ValidatorSet) -> Turns:
    """The turns at the start of the next epoch: who failed in the last two has none.

    Most failures first, ties by index, while the skipped hold less than a third of the stake.
    """
    blamed = {
        validator.operator: views
        for validator, views in zip(ending.validators, turns.failures, strict=True)
        if views
    }
    return Turns(
        failed_views=0,
        last_view=0,
        failures=(0,) * len(beginning),
        earlier=tuple(Blame(operator, views) for operator, views in sorted(blamed.items())),
        skipped=_skipped(beginning, blamed, {b.operator: b.views for b in turns.earlier}),
    )


def _skipped(
    validators: ValidatorSet, last: Mapping[bytes, int], before: Mapping[bytes, int]
) -> tuple[int, ...]:
    ranked = []
    for index, validator in enumerate(validators.validators):
        views = last.get(validator.operator, 0) + before.get(validator.operator, 0)
        if views:
            ranked.append((-views, index))
    skipped: list[int] = []
    weight = 0
    for _, index in sorted(ranked):
        stake = validators.validators[index].stake
        if 3 * (weight + stake) < validators.total:
            weight += stake
            skipped.append(index)
    return tuple(sorted(skipped))


def _schedule(
    validators: ValidatorSet, skipped: tuple[int, ...], failed_views: int, heights: int
) -> Schedule:
    stakes = tuple(
        0 if index in skipped else validator.stake
        for index, validator in enumerate(validators.validators)
    )
    return Schedule(sequence_of(stakes), heights // STICKY_HEIGHTS + failed_views)


@lru_cache(maxsize=64)
def sequence_of(stakes: tuple[int, ...]) -> bytes:
    """Smooth weighted round robin: add each stake, take the largest, subtract the total.

    Ties go to the smaller index, a stake of 0 has no turn. One period, or its first 1,024
    entries.
    """
    total = sum(stakes)
    credit = [0] * len(stakes)
    sequence = bytearray()
    while len(sequence) < SEQUENCE_MAX:
        credit = [have + stake for have, stake in zip(credit, stakes, strict=True)]
        chosen = max(range(len(stakes)), key=lambda index: (credit[index], -index))
        credit[chosen] -= total
        sequence.append(chosen)
        if not any(credit):
            break
    return bytes(sequence)
