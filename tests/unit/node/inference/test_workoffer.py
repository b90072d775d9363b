"""What the operator says of work for others: it holds at once and over restarts."""

from pathlib import Path

import msgspec
import pytest
from typing_extensions import override

from prsm.node.inference.capacity import Standing
from prsm.node.inference.interface import AllowAll, JobFacts
from prsm.node.inference.terms import Terms
from prsm.node.inference.workoffer import PAUSED, Said, WorkOffer
from prsm.protocol.errors import PrsmError
from prsm.protocol.receipts import WorkKind

FACTS = JobFacts(b"j", b"t", b"r", WorkKind.INFER, b"m", 1)


class Inner(AllowAll):
    """Refuses everything, for a reason of its own."""

    @override
    def before(self, facts: JobFacts) -> str:
        del facts
        return "not today"


def paused(said: Said) -> Said:
    return msgspec.structs.replace(said, paused=True)


async def test_pause_takes_nothing_new_and_outlives_the_process(tmp_path: Path) -> None:
    offer = WorkOffer(Terms(), AllowAll(), tmp_path / "worker.json")
    offered = offer.offered(lambda: Standing(1, "runtime", 3, ()))
    assert (offer.before(FACTS), offered().slots_free, offer.hindrance()) == ("", 3, "")
    await offer.change(paused)
    assert (offer.before(FACTS), offered().slots_free, offer.hindrance()) == (PAUSED, 0, PAUSED)
    again = WorkOffer(Terms(), AllowAll(), tmp_path / "worker.json")
    assert again.before(FACTS) == PAUSED
    await again.change(lambda said: msgspec.structs.replace(said, paused=False))
    assert WorkOffer(Terms(), AllowAll(), tmp_path / "worker.json").before(FACTS) == ""


async def test_price_and_bound_change_the_terms_that_openings_read(tmp_path: Path) -> None:
    """The program's own bound is the highest; what is taken back is as configured again."""
    terms = Terms(price_per_row=7, units_max=8)
    offer = WorkOffer(terms, AllowAll(), tmp_path / "worker.json")
    await offer.change(lambda _: Said(price=9, units_max=2))
    assert (terms.price_per_row, terms.units_max) == (9, 2)
    await offer.change(lambda _: Said(price=0, units_max=400))
    assert (terms.price_per_row, terms.units_max) == (0, 8)
    await offer.change(lambda _: Said())
    assert (terms.price_per_row, terms.units_max) == (7, 8)


def test_what_keeps_work_away_is_named_and_others_still_decide(tmp_path: Path) -> None:
    hindrances = (lambda: "", lambda: "the payment key is locked")
    offer = WorkOffer(Terms(), Inner(), tmp_path / "worker.json", hindrances=hindrances)
    assert offer.hindrance() == "the payment key is locked"
    assert offer.before(FACTS) == "not today"


@pytest.mark.parametrize(
    "raw", [b"", b"{", b'{"paused": "yes"}', b"\xff", b'{"units_max": 0}', b"[" * 4096]
)
def test_damaged_word_is_nothing_said(raw: bytes, tmp_path: Path) -> None:
    (tmp_path / "worker.json").write_bytes(raw)
    assert WorkOffer(Terms(), AllowAll(), tmp_path / "worker.json").said == Said()


async def test_disk_that_refuses_changes_nothing(tmp_path: Path) -> None:
    offer = WorkOffer(Terms(), AllowAll(), tmp_path / "gone" / "worker.json")
    with pytest.raises(PrsmError):
        await offer.change(paused)
    assert offer.before(FACTS) == ""
