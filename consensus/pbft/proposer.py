"""Who may propose at a height and view: weighted round robin, sticky, passing dead proposers.

All inputs come from the chain; a local certificate may carry another view than the one the
next block holds, and a schedule made from it would fork. Source: docs/spec/pbft.md,
"Proposer schedule".
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from prsm.consensus.pbft.config import Tip
from prsm.protocol.headers import Block

STICKY_HEIGHTS: Final = 10  # a changed proposer costs nothing, a dead one two timeouts
# The exact sequence repeats after T / gcd of the stakes, which may be 10^15; cut here it is
# off by less than a thousandth of the total.
SEQUENCE_MAX: Final = 1024


@dataclass(frozen=True, slots=True)
class Schedule:
    """The proposers of one height, by view."""

    sequence: bytes  # signer indexes
    offset: int

    def at(self, view: int) -> int:
        """Signer index of the proposer in this view."""
        return self.sequence[(self.offset + view) % len(self.sequence)]


def schedule_of(tip: Tip) -> Schedule:
    """The proposers of height `tip.height + 1`."""
    stakes = tuple(validator.stake for validator in tip.validators.validators)
    height = tip.height + 1
    offset = (height - tip.epoch_first) // STICKY_HEIGHTS + tip.failed_views
    return Schedule(sequence_of(stakes), offset)


def failed_views_after(tip: Tip, block: Block) -> int:
    """a(h + 1) once `block` of height h is executed, while the epoch lasts.

    The sum of the views of `prev_cert` in blocks h0 + 1 .. h: its input is on the chain.
    """
    previous = block.body.prev_cert
    if previous is None or block.header.height <= tip.epoch_first:
        return tip.failed_views
    return tip.failed_views + previous.view


@lru_cache(maxsize=64)
def sequence_of(stakes: tuple[int, ...]) -> bytes:
    """Smooth weighted round robin: add each stake, take the largest, subtract the total.

    Ties go to the smaller index. One period, or its first 1,024 entries.
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
