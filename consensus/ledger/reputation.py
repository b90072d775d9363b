"""How a worker has done, and how often it is audited for it: pure arithmetic over its record.

Source: docs/spec/work.md, "Audits".
"""

from typing import Final

import msgspec

from prsm.consensus.ledger.audit_records import Standing, standing_key
from prsm.consensus.ledger.state import Reader, State, read
from prsm.protocol.genesis import AMOUNT_MAX

# A worker is new until it was paid for so many units it did alone, and in all so many times what
# the next one costs. Compared work proves nothing here: who orders it names all its workers, and
# pays himself. Work alone can be ordered of oneself too, but it is audited while it counts, and the
# treasury's part of it is lost: 5 % of 20 prices is what one could gain by a lie.
NEW_UNITS: Final = 20
NEW_BPS: Final = 2_500
PROBATION_UNITS: Final = 100  # after a fault every unit is audited, so many times
ALWAYS_BPS: Final = 10_000
EARNED_MAX: Final = AMOUNT_MAX  # money goes round: without an end the sum would leave 63 bits


def standing(reader: Reader, worker: bytes) -> Standing:
    """How a worker has done so far."""
    found = read(reader, standing_key(worker), Standing)
    return Standing(settled=0, faults=0, clean=0, earned=0) if found is None else found


def note_settled(state: State, worker: bytes, *, alone: int | None) -> None:
    """A unit of the worker was paid.

    Args:
        state: written to.
        worker: who did it.
        alone: micro-FTNS it cost, if nobody compared it; None if somebody did.
    """
    found = standing(state, worker)
    better = msgspec.structs.replace(found, settled=found.settled + 1)
    if alone is not None:
        earned = min(found.earned + alone, EARNED_MAX)
        better = msgspec.structs.replace(better, clean=found.clean + 1, earned=earned)
    state.write(standing_key(worker), better)


def note_fault(state: State, worker: bytes) -> None:
    """A result of the worker was wrong."""
    found = standing(state, worker)
    worse = msgspec.structs.replace(found, faults=found.faults + 1, clean=0, earned=0)
    state.write(standing_key(worker), worse)


def audit_bps(found: Standing, base_bps: int, *, reserve: int) -> int:
    """Of ten thousand units of such a worker, how many are drawn; 0 where audits are off.

    Args:
        found: how the worker has done.
        base_bps: of a worker who is neither new nor at fault.
        reserve: micro-FTNS the unit costs at most.
    """
    if base_bps == 0:
        return 0
    units = PROBATION_UNITS if found.faults else NEW_UNITS
    if found.clean >= units and found.earned >= units * reserve:
        return base_bps
    return ALWAYS_BPS if found.faults else max(base_bps, NEW_BPS)
