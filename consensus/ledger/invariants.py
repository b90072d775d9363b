"""What always holds of the money, asserted after every block: a breach is a bug of ours."""

from collections.abc import Iterable
from typing import Final

from prsm.consensus.ledger.audit_records import CASE, PLEDGED, Case, Pledged
from prsm.consensus.ledger.custody_records import DEAL, Deal
from prsm.consensus.ledger.proposals import PROPOSAL, Proposal
from prsm.consensus.ledger.records import (
    ACCOUNT,
    BOND,
    HELD,
    JOB,
    TOTALS_KEY,
    Balance,
    Bond,
    Held,
    Job,
    Totals,
)
from prsm.consensus.ledger.state import Reader, read
from prsm.protocol.ids import FTNS

_FTNS_SUFFIX: Final = FTNS.to_bytes(4, "big")


def assert_conserved(before: Reader, after: Reader, touched: Iterable[bytes]) -> None:
    """Check that a block moved money and made none.

    The sums over the whole state were checked when it was loaded (`assert_sound`), so the
    differences of the touched entries suffice.
    """
    old, new = read(before, TOTALS_KEY, Totals), read(after, TOTALS_KEY, Totals)
    assert old is not None
    assert new is not None
    balances = locked = bonded = 0
    for key in touched:
        now, then = _amounts(after, key), _amounts(before, key)
        balances += now[0] - then[0]
        locked += now[1] - then[1]
        bonded += now[2] - then[2]
    assert new.minted == old.minted, "emission is zero"
    assert locked == new.locked - old.locked, f"escrow moved {locked} micro-FTNS unnoticed"
    assert bonded == new.bonded - old.bonded, f"bonds moved {bonded} micro-FTNS unnoticed"
    made = balances + locked + bonded + new.burnt - old.burnt
    assert made == 0, f"{made} micro-FTNS out of nothing"


def assert_sound(state: dict[bytes, bytes]) -> None:
    """Check the sums over a whole state: balances, escrow and bonds make up what was minted."""
    totals = read(state, TOTALS_KEY, Totals)
    assert totals is not None, "a state without totals"
    sums = [sum(column) for column in zip(*(_amounts(state, key) for key in state), strict=True)]
    assert sums[1:] == [totals.locked, totals.bonded], "escrow or bonds do not add up"
    assert sum(sums) + totals.burnt == totals.minted, "the supply does not add up"


def _amounts(reader: Reader, key: bytes) -> tuple[int, int, int]:  # noqa: PLR0911 - dispatch
    """What an entry adds to balances, escrow and bonds."""
    letter = key[:1]
    if letter == ACCOUNT and key.endswith(_FTNS_SUFFIX):
        balance = read(reader, key, Balance)
        return (0 if balance is None else balance.amount, 0, 0)
    if letter == JOB:
        job = read(reader, key, Job)
        return (0, 0 if job is None else job.locked, 0)
    if letter == HELD:
        held = read(reader, key, Held)
        return (0, 0 if held is None else held.left, 0)
    if letter == DEAL:
        deal = read(reader, key, Deal)
        return (0, 0 if deal is None else deal.locked + deal.collateral, 0)
    if letter == PLEDGED:
        pledged = read(reader, key, Pledged)
        return (0, 0 if pledged is None else pledged.amount, 0)
    if letter == CASE:
        case = read(reader, key, Case)
        return (0, 0 if case is None or case.is_auditor else case.deposit, 0)
    if letter == PROPOSAL:
        proposal = read(reader, key, Proposal)
        return (0, 0 if proposal is None else proposal.deposit, 0)
    if letter == BOND:
        bond = read(reader, key, Bond)
        return (0, 0, 0 if bond is None else bond.stake)
    return (0, 0, 0)
