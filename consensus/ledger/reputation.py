"""How a worker has done, and how often it is audited for it: pure arithmetic over its record.

Source: docs/spec/work.md, "Audits".
"""

from typing import Final

import msgspec

from prsm.consensus.ledger.audit_records import Standing, standing_key
from prsm.consensus.ledger.state import Reader, State, read

NEW_UNITS: Final = 20  # until it has settled so many, a worker is new
NEW_BPS: Final = 2_500
PROBATION_UNITS: Final = 100  # after a fault every unit is audited, so many times
ALWAYS_BPS: Final = 10_000


def standing(reader: Reader, worker: bytes) -> Standing:
    """How a worker has done so far."""
    found = read(reader, standing_key(worker), Standing)
    return Standing(settled=0, faults=0, clean=0) if found is None else found


def note_settled(state: State, worker: bytes) -> None:
    """A unit of the worker was paid."""
    found = standing(state, worker)
    better = msgspec.structs.replace(found, settled=found.settled + 1, clean=found.clean + 1)
    state.write(standing_key(worker), better)


def note_fault(state: State, worker: bytes) -> None:
    """A result of the worker was wrong."""
    found = standing(state, worker)
    worse = msgspec.structs.replace(found, faults=found.faults + 1, clean=0)
    state.write(standing_key(worker), worse)


def audit_bps(found: Standing, base_bps: int) -> int:
    """Of ten thousand units of such a worker, how many are drawn; 0 where audits are off."""
    if base_bps == 0:
        return 0
    if found.faults and found.clean < PROBATION_UNITS:
        return ALWAYS_BPS
    return max(base_bps, NEW_BPS) if found.settled < NEW_UNITS else base_bps
