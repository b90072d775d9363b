"""A juror's node on the ledger's own case: it seals, and opens when nobody can seal any more."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from prsm.node.inference.interface import TransactionFailed, TxResult
from prsm.node.work.court import LedgerCourt
from prsm.protocol.codec import Record
from prsm.protocol.ed25519 import Signer
from prsm.protocol.ids import TxId
from prsm.protocol.receipts import WorkReceipt
from prsm.protocol.transactions.audits import Finding
from prsm.protocol.transactions.payloads import JUDGE, SEAL
from prsm.protocol.transactions.results import Code
from prsm.testnet.chain import signer_of
from tests.tools.audited import Scene

OURS = 2  # number of the validator whose node this is


@dataclass
class Account:
    """The node's account on a scene: what it sends is in the next block."""

    scene: Scene
    sent: list[int] = field(default_factory=list)
    address: bytes = bytes(signer_of(70).public_key)

    @property
    def chain_id(self) -> bytes:
        return self.scene.chain.genesis.chain_id

    @property
    def signer(self) -> Signer:
        return signer_of(70)

    def block_time_ms(self) -> int:
        return self.scene.chain.ledger.tip.time_ms

    async def submit(self, kind: int, payload: Record) -> TxId:
        self.sent.append(kind)
        self.result = self.scene.chain.send(70, payload)
        return TxId(self.result.tx)

    async def wait_committed(self, tx: TxId) -> TxResult:
        assert tx == self.result.tx
        return TxResult(0, self.result.code is Code.DONE, self.result.code.name.lower())


@dataclass
class Juror:
    """A case, and the node of one of its jurors."""

    scene: Scene
    receipt: WorkReceipt
    account: Account

    def court(self) -> LedgerCourt:
        """Also what the node is after a restart: it keeps nothing."""
        driver: object = SimpleNamespace(ledger=self.scene.chain.ledger, on_head=[])
        return LedgerCourt(driver, self.account, (signer_of(OURS),))  # type: ignore[arg-type]  # what it reads


@pytest.fixture
def juror() -> Juror:
    scene = Scene().begin()
    receipt = scene.bound()
    assert scene.dispute(receipt).code is Code.DONE
    return Juror(scene, receipt, Account(scene))


async def test_a_finding_is_sealed_once_and_opened_after_the_others(juror: Juror) -> None:
    court, scene = juror.court(), juror.scene
    [trial] = court.trials()
    case = scene.chain.ledger.view.case(trial.job, trial.unit)
    assert case is not None
    assert trial.until_ms == case.opens_ms, "what is not sealed by then is not heard"
    assert court.openings() == ()
    await court.judge(trial, Finding.EQUAL)
    assert (juror.account.sent, court.trials(), court.openings()) == ([SEAL], (), ())
    for other in (0, 1, 3):
        assert scene.seal(juror.receipt, other, Finding.EQUAL).code is Code.DONE
    [opening] = court.openings()
    await court.open(opening)
    assert (juror.account.sent, court.openings()) == ([SEAL, JUDGE], ())
    case = scene.chain.ledger.view.case(trial.job, trial.unit)
    assert case is not None
    assert [one.finding for one in case.jurors if one.finding] == [Finding.EQUAL]


@pytest.mark.parametrize("finding", list(Finding))
async def test_a_node_that_started_again_opens_what_it_sealed(
    juror: Juror, finding: Finding
) -> None:
    before = juror.court()
    await before.judge(before.trials()[0], finding)
    juror.scene.end_sealing()
    after = juror.court()
    assert after.trials() == (), "it is too late to seal"
    [opening] = after.openings()
    await after.open(opening)
    # It alone sealed, so nobody is left to wait for, and its word decides what nobody loses by.
    assert juror.scene.chain.ledger.view.cases() == []


async def test_a_seal_that_is_not_ours_is_not_opened(juror: Juror) -> None:
    """Somebody with our consensus key on another machine sealed it: there is nothing to show."""
    court = juror.court()
    await court.judge(court.trials()[0], Finding.EQUAL)
    juror.scene.end_sealing()
    [opening] = court.openings()
    with pytest.raises(TransactionFailed, match="no finding of our key"):
        await court.open(type(opening)(opening.job, opening.unit, opening.juror, bytes(32)))
