"""What the members may decide, and the rules of each category of decisions.

Knows: categories, their rules, and which parameter belongs to which. Must not know: votes, state.
Source: docs/spec/ledger.md, "Governance".
"""

from enum import IntEnum
from typing import Annotated, Final

import msgspec

from prsm.protocol.codec import Record

DAY_MS: Final = 86_400_000
YEARS_MS: Final = 10 * 365 * DAY_MS  # sums of times stay far inside 63 bits
# What was decided must be possible to undo. So no quorum needs those who may be faulty or away, a
# third of the weight; no single voice keeps all others from it; and half a year is the longest.
QUORUM_BPS_MAX: Final = 6_666
THRESHOLD_BPS_MAX: Final = 9_000
VOTING_MS_MAX: Final = 90 * DAY_MS
TIMELOCK_MS_MAX: Final = 90 * DAY_MS


class Category(IntEnum):
    """What a proposal is about; numbers are for ever."""

    CONSTITUTIONAL = 1
    ECONOMIC = 2
    TECHNICAL = 3
    SAFETY = 4
    OPERATIONAL = 5
    COMMUNITY = 6
    EMERGENCY = 7


class Rules(Record, frozen=True):
    """How one category is decided."""

    quorum_bps: Annotated[
        int, msgspec.Meta(ge=1, le=QUORUM_BPS_MAX)
    ]  # of the electorate's weight must vote
    # Yes of yes and no.
    threshold_bps: Annotated[int, msgspec.Meta(ge=5_000, le=THRESHOLD_BPS_MAX)]
    voting_ms: Annotated[int, msgspec.Meta(ge=1_000, le=VOTING_MS_MAX)]
    # Between vote and effect.
    timelock_ms: Annotated[int, msgspec.Meta(ge=0, le=TIMELOCK_MS_MAX)]


_APPROVE, _SUPER, _SAFETY = 6_000, 7_500, 9_000
CONSTITUTIONAL: Final = Rules(2_000, _SUPER, 14 * DAY_MS, 7 * DAY_MS)
ECONOMIC: Final = Rules(2_000, _APPROVE, 7 * DAY_MS, 3 * DAY_MS)
TECHNICAL: Final = Rules(2_000, _APPROVE, 7 * DAY_MS, 3 * DAY_MS)
SAFETY: Final = Rules(2_000, _SAFETY, 7 * DAY_MS, DAY_MS)
OPERATIONAL: Final = Rules(2_000, _APPROVE, 3 * DAY_MS, DAY_MS)
COMMUNITY: Final = Rules(2_000, _APPROVE, 7 * DAY_MS, 0)
EMERGENCY: Final = Rules(2_000, _SUPER, DAY_MS, 0)

# A parameter changes by a proposal of its own category, or a constitutional one. What is not
# here is fixed: nodes read it when they start, or the shape of the state depends on it.
GOVERNED: Final[dict[str, Category]] = {
    "fee_base": Category.ECONOMIC,
    "fee_per_byte": Category.ECONOMIC,
    "fee_per_operation": Category.ECONOMIC,
    "treasury_bps": Category.ECONOMIC,
    "stake_min": Category.ECONOMIC,
    "epoch_ms": Category.TECHNICAL,
    "escrow_ms_max": Category.OPERATIONAL,
    "job_keep_ms": Category.OPERATIONAL,
    "settle_grace_ms": Category.OPERATIONAL,
    "audit_bps": Category.SAFETY,
    "audit_bond_multiple": Category.SAFETY,
    "audit_window_ms": Category.OPERATIONAL,
    "case_window_ms": Category.OPERATIONAL,
    "case_deposit": Category.ECONOMIC,
    "pledge_min": Category.ECONOMIC,
    "transaction_ms_max": Category.OPERATIONAL,
    "slash_bps": Category.SAFETY,
    "reporter_bps": Category.SAFETY,
    "halt_bps": Category.SAFETY,
    "unbonding_ms": Category.SAFETY,
    "operator_cap": Category.CONSTITUTIONAL,
    "proposal_deposit": Category.CONSTITUTIONAL,
    "vote_min": Category.CONSTITUTIONAL,
    **{
        f"{category.name.lower()}.{field}": Category.CONSTITUTIONAL
        for category in Category
        for field in Rules.__struct_fields__
    },
}
HALTING: Final = (Category.SAFETY, Category.EMERGENCY)  # categories that may halt an object
