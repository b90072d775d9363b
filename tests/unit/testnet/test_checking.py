"""What the judge of a network makes of receipts: which transaction ended a unit."""

from prsm.protocol.codec import encode
from prsm.protocol.messages.sync import Certified
from prsm.protocol.transactions.audits import Finding
from prsm.protocol.transactions.results import Code
from prsm.testnet.checking import has_ended_unit
from prsm.testnet.effects import judge
from prsm.testnet.jobs import Work
from tests.tools.audited import WORKER, Scene

LIE = Work(WORKER, dict.fromkeys(range(3), "lie"))


def test_settlement_that_opens_a_case_is_no_payment() -> None:
    """It has its effect, and so has every finding; only the last one ends the unit."""
    scene = Scene().begin()
    lied = scene.bound(LIE)
    scene.audit()
    opened = scene.settle(lied)
    assert opened.code is Code.DONE
    refused = scene.settle(lied)
    scene.sealed(lied, *[Finding.DIFFERENT] * 3)
    first, second, last = (scene.judge(lied, n, Finding.DIFFERENT) for n in range(3))
    blocks = [encode(Certified(made.block, made.certificate)) for made in scene.chain.made]
    effects = judge({"one": blocks}, [], scene.chain.genesis)
    receipts = [opened, refused, first, second, last]
    assert effects.endings == {(scene.lock.job, 0): [receipt.tx for receipt in receipts]}
    assert [has_ended_unit(receipt) for receipt in receipts] == [False] * 4 + [True]


def test_settlement_without_a_case_ends_its_unit() -> None:
    """The auditor found the same."""
    scene = Scene().begin()
    receipt = scene.bound()
    scene.audit()
    assert has_ended_unit(scene.settle(receipt))
    assert not has_ended_unit(scene.settle(receipt)), "settled already"
