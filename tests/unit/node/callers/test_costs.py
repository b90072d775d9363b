"""What escrows came to: settled for good, still locked, and a parent with its children."""

import msgspec

from prsm.consensus.ledger.records import Job as Escrow
from prsm.consensus.ledger.records import JobStatus, Verdict
from prsm.node.callers.costs import spent_of
from prsm.protocol.receipts import WorkKind
from prsm.protocol.transactions.payloads import Unit

ROWS, PRICE, WORKERS = 10, 7, 3
RESERVE = ROWS * PRICE * WORKERS

UNIT = Unit(
    kind=WorkKind.INFER,
    model=b"m" * 36,
    stages=1,
    stage=0,
    first=0,
    count=1,
    needed=2,
    price_per_row=PRICE,
    rates=None,
    workers=(b"a" * 32, b"b" * 32, b"c" * 32),
)
OPEN = Escrow(
    job=b"j" * 32,
    requester=b"r" * 32,
    tenant=b"",
    asset=0,
    parent=None,
    depth=1,
    batch_rows=(ROWS,),
    units=(UNIT, UNIT),
    shares=(),
    treasury_bps=500,
    deadline_ms=1,
    opened_height=1,
    status=JobStatus.OPEN,
    locked=2 * RESERVE,
    budget=0,
    children=0,
    verdicts=(None, None),
    is_open_ended=False,
)


def verdict(returned: int) -> Verdict:
    return Verdict(
        height=2,
        decided=1,
        inputs=bytes(32),
        outputs=bytes(32),
        opinions=(),
        returned=returned,
        auditor=None,
        reward=0,
    )


def test_what_is_locked_counts_until_it_is_settled_or_back() -> None:
    """Both units open; one settled with a part back; the other refunded with its lock."""
    assert spent_of([OPEN]) == 2 * RESERVE
    half = msgspec.structs.replace(OPEN, locked=RESERVE, verdicts=(verdict(70), None))
    assert spent_of([half]) == RESERVE - 70 + RESERVE
    back = msgspec.structs.replace(half, locked=0, status=JobStatus.REFUNDED)
    assert spent_of([back]) == RESERVE - 70


def test_money_of_a_child_counts_once() -> None:
    """A plan of 1,000 whose child drew two reserves: the rest of it, and what the child paid."""
    child = msgspec.structs.replace(
        OPEN, parent=b"p" * 32, depth=2, locked=RESERVE, verdicts=(verdict(70), None)
    )
    left = 1_000 - 2 * RESERVE + 70  # what came back from the child is there again
    plan = msgspec.structs.replace(
        OPEN, job=b"p" * 32, units=(), verdicts=(), batch_rows=(), locked=left, budget=left
    )
    assert spent_of([plan, child]) == 1_000
    over = msgspec.structs.replace(plan, locked=0, budget=0, status=JobStatus.REFUNDED)
    paid = msgspec.structs.replace(child, locked=0, verdicts=(verdict(70), verdict(RESERVE)))
    assert spent_of([over, paid]) == RESERVE - 70
