"""What is right, and what each receipt is worth: pure arithmetic over shown receipts.

Right is, batch by batch, what `needed` distinct workers state: rows, what went in, what came out.
Who differs in what came out of the same inputs is wrong; who differs in what went in is wrong
only if it cannot show that the requester fed it so. Must not know the state.
Source: docs/spec/work.md, "Settlement".
"""

from collections.abc import Sequence
from dataclasses import dataclass

from prsm.protocol.limits import MIB
from prsm.protocol.receipts import Feed, Stated, WorkReceipt
from prsm.protocol.transactions.payloads import Unit

Fed = tuple[bytes, bytes]  # input root, side root


@dataclass(frozen=True, slots=True)
class Worth:
    """What one receipt is worth.

    Attributes:
        wrong: batches that are neither right nor excused: it earns nothing.
        lies: those of them with the right inputs and another result: a fault.
        rows: of the batches that are paid for.
    """

    wrong: tuple[int, ...]
    lies: tuple[int, ...]
    rows: int


@dataclass(frozen=True, slots=True)
class Ruling:
    """What the receipts of one unit come to.

    Attributes:
        right: by batch, for those that are decided.
        missing: batches of the unit that are not.
        torn: batches for which the requester signed two different feeds.
        worths: in the order of the receipts.
    """

    right: dict[int, Stated]
    missing: tuple[int, ...]
    torn: frozenset[int]
    worths: tuple[Worth, ...]


def tally(receipts: Sequence[WorkReceipt], unit: Unit) -> dict[int, Stated]:
    """The right statement on each batch that has one.

    Args:
        receipts: one a worker; fewer than twice `needed`, so no batch has two.
        unit: how many must hold the same.
    """
    held: dict[tuple[int, Stated], int] = {}
    right: dict[int, Stated] = {}
    for receipt in receipts:
        for batch in receipt.batches:
            index, stated = batch.index, batch.stated
            held[index, stated] = count = held.get((index, stated), 0) + 1
            if count == unit.needed:
                right[index] = stated
    return right


def is_decided(receipts: Sequence[WorkReceipt], unit: Unit, *, is_open_ended: bool) -> bool:
    """Would these receipts settle the unit, if no feed is shown and nobody is left out?"""
    right = tally(receipts, unit)
    return bool(right) and (is_open_ended or len(right) == unit.count)


def rule_on(receipts: Sequence[WorkReceipt], feeds: Sequence[Feed], unit: Unit) -> Ruling:
    """Say what is right and what every receipt is worth.

    Args:
        receipts: one a worker, of this unit.
        feeds: of this unit, signed by its requester.
        unit: as it was locked.
    """
    right = tally(receipts, unit)
    fed: dict[int, set[Fed]] = {}
    for feed in feeds:
        fed.setdefault(feed.batch, set()).add((feed.input_root, feed.side_root))
    torn = frozenset(index for index, roots in fed.items() if len(roots) > 1)
    return Ruling(
        right=right,
        missing=tuple(index for index in unit.batches if index not in right),
        torn=torn,
        worths=tuple(_worth(receipt, right, fed, torn) for receipt in receipts),
    )


def flow_of(ruling: Ruling, unit: Unit) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Right input and output roots by batch of the unit; empty where nothing is decided."""
    stated = [ruling.right.get(index) for index in unit.batches]
    return (
        tuple(b"" if one is None else one[1] for one in stated),
        tuple(b"" if one is None else one[3] for one in stated),
    )


def charge(receipt: WorkReceipt, unit: Unit, rows: int) -> int:
    """Micro-FTNS that so many right rows of a receipt cost, before the parts of others."""
    cap = unit.price_per_row * rows
    rates, measured = unit.rates, receipt.measured
    if rates is None:
        return cap
    moved = rates.mib * (measured.bytes_in + measured.bytes_out) // MIB
    return min(cap, rates.row * rows + rates.cpu_ms * measured.cpu_ms + moved)


def _worth(
    receipt: WorkReceipt,
    right: dict[int, Stated],
    fed: dict[int, set[Fed]],
    torn: frozenset[int],
) -> Worth:
    wrong, lies, rows = [], [], 0
    for batch in receipt.batches:
        stated, own = right.get(batch.index), batch.stated
        if stated == own or (fed and _is_excused(own, stated, fed.get(batch.index, set()))):
            rows += batch.rows
        elif batch.index in torn or stated is not None:
            wrong.append(batch.index)
            if stated is not None and stated[:3] == own[:3]:
                lies.append(batch.index)
        elif torn:
            rows += batch.rows  # the requester broke the unit: nobody will decide the rest
    return Worth(tuple(wrong), tuple(lies), rows)


def _is_excused(own: Stated, stated: Stated | None, fed: set[Fed]) -> bool:
    """Did the requester sign these inputs, though others were right or it signed others too?"""
    inputs = own[1:3]
    if inputs not in fed:
        return False
    return len(fed) > 1 if stated is None else stated[1:3] != inputs
