"""What a job says of its workers: what the requester saw, and in the end what the ledger found."""

import pytest

from prsm.consensus.ledger.records import Opinion, Verdict
from prsm.node.api.work import _verdict
from prsm.node.inference.job import WorkerView
from prsm.protocol.ids import PeerId

ME, OTHER = b"m" * 32, b"o" * 32


def view(*, rows: int = 4, lost: str = "", outvoted: bool = False) -> WorkerView:
    return WorkerView(
        *(0, b"j" * 32, 0, 0, ME, PeerId("peer"), "primary", 1, rows, 9, lost, outvoted), paid=None
    )


def verdict(worker: bytes, *, wrong: int) -> Verdict:
    opinion = Opinion(worker, b"r" * 32, 3, 4, wrong, 0 if wrong else 10)
    return Verdict(5, 1, b"i" * 32, b"o" * 32, (opinion,), 0, None, 0)


@pytest.mark.parametrize(
    ("seen", "found", "said"),
    [
        (view(), None, "pending"),
        (view(), verdict(ME, wrong=0), "agreed"),
        (view(), verdict(ME, wrong=1), "outvoted"),  # a committee found what nobody here did
        (view(), verdict(OTHER, wrong=1), "agreed"),
        (view(rows=0), verdict(OTHER, wrong=0), "unused"),
        (view(outvoted=True), None, "outvoted"),
        (view(lost="gone"), verdict(OTHER, wrong=0), "lost"),
    ],
)
def test_the_ledger_has_the_last_word(seen: WorkerView, found: Verdict | None, said: str) -> None:
    assert _verdict(seen, found) == said
