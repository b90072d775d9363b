"""Generated text is checked like other work: all steps again, from what the requester signed."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import pytest
import trio
from trio.testing import MockClock

from prsm.node.inference.divergence import Boundary
from prsm.node.inference.evidence import Evidence, Place
from prsm.node.inference.generate.generation import GenerateRequest
from prsm.node.inference.inquiry import LEFT_S, Ask, Inquiry, NoTimeLeft, Unserved, Witness
from prsm.node.inference.judging import Stated
from prsm.node.inference.recheck import Recheck
from prsm.protocol.errors import Unsupported
from prsm.protocol.generating import Sampling
from prsm.protocol.messages.audit import Side
from prsm.protocol.receipts import BatchResult, WorkReceipt
from prsm.protocol.transactions.audits import Finding
from prsm.storage.evidence import EvidenceFiles
from tests.tools.generating import Makers, generating_manifest, make_makers, settled
from tests.tools.work import MODEL, MemoryModels, Node
from tests.tools.work_chain import VERIFIER

pytestmark = pytest.mark.usefixtures("no_threads")

CHECKER = 3


@dataclass
class Checked:
    """A paid generation over two stages, and a node that computes it again."""

    folder: Path
    evidence: list[Evidence] = field(default_factory=list)
    makers: Makers = field(init=False)
    receipts: tuple[WorkReceipt, ...] = ()

    def __post_init__(self) -> None:
        self.makers = make_makers(4, price_per_row=10, keep=self.keep)

    def keep(self, node: Node) -> Evidence:
        """Never dropped here: nobody runs it."""
        made = Evidence(EvidenceFiles(self.folder / str(node.index)), node.chain)
        Witness(node.network, node.chain, made, VERIFIER, may_see=lambda *_: True)
        self.evidence.append(made)
        return made

    async def run(self, nursery: trio.Nursery) -> None:
        await self.makers.start(nursery)
        request = GenerateRequest(MODEL, "Once upon a time", 40, Sampling(0, 0, 1000, 0), stages=2)
        _, one = await self.makers.makers[0].generate(request)
        self.receipts = (await settled(one)).receipts

    @property
    def recheck(self) -> Recheck:
        node = self.makers.makers[CHECKER].node
        inquiry = Inquiry(node.network, node.chain, VERIFIER)
        return Recheck(inquiry, MemoryModels(generating_manifest()), node.shards)

    async def judge(
        self, receipt: WorkReceipt, batch: BatchResult, *, output: bytes = b"", other: bool = False
    ) -> Finding:
        """What the checker says, of the receipt or of one with another output."""
        stated = Boundary(batch.input_root, batch.side_root, output or batch.output_root)
        class_id = b"?" * 32 if other else receipt.class_id
        place = Place(receipt.job, receipt.unit, batch.index, Side.IN, receipt.worker)
        key = self.makers.makers[CHECKER].node.chain.signer
        return await self.recheck.judge(Ask(place, key), Stated(stated, class_id))


@pytest.fixture
async def checked(nursery: trio.Nursery, tmp_path: Path) -> Checked:
    made = Checked(tmp_path)
    await made.run(nursery)
    return made


async def test_every_batch_of_every_stage_is_computed_again(
    checked: Checked, autojump_clock: MockClock
) -> None:
    """The prompt, full batches and the short last one, at both stages."""
    assert sorted(len(receipt.batches) for receipt in checked.receipts) == [4, 4]
    key = checked.makers.makers[CHECKER].node.chain.signer
    for receipt in checked.receipts:
        for batch in receipt.batches:
            assert await checked.judge(receipt, batch) is Finding.EQUAL
            place = Place(receipt.job, receipt.unit, batch.index, Side.IN, receipt.worker)
            found = await checked.recheck.compute(Ask(place, key))
            assert found == Boundary(batch.input_root, batch.side_root, batch.output_root)
    steppers = checked.makers.makers[CHECKER].runner.opened
    assert [stepper.caches for stepper in steppers] == [{}] * len(steppers)  # no session is left


async def test_other_tokens_are_a_lie_in_the_class_and_open_outside(
    checked: Checked, autojump_clock: MockClock
) -> None:
    last = next(receipt for receipt in checked.receipts if receipt.stage == 1)
    batch, lie = last.batches[2], b"x" * 32
    assert await checked.judge(last, batch, output=lie) is Finding.DIFFERENT
    with pytest.raises(Unsupported, match="tokens"):
        await checked.judge(last, batch, output=lie, other=True)


async def test_the_cut_of_an_integer_model_is_not_judged_outside_its_class(
    checked: Checked, autojump_clock: MockClock
) -> None:
    first = next(receipt for receipt in checked.receipts if receipt.stage == 0)
    manifest = generating_manifest()
    apart = msgspec.structs.replace(manifest.compute, options="cpu; classes=apart")
    marked = MemoryModels(msgspec.structs.replace(manifest, compute=apart))
    recheck = replace(checked.recheck, models=marked)
    batch = first.batches[1]
    stated = Boundary(batch.input_root, batch.side_root, b"x" * 32)
    place = Place(first.job, first.unit, 1, Side.IN, first.worker)
    key = checked.makers.makers[CHECKER].node.chain.signer
    with pytest.raises(Unsupported, match="inside a determinism class only"):
        await recheck.judge(Ask(place, key), Stated(stated, b"?" * 32))


async def test_inputs_the_receipt_does_not_state_are_unserved(
    checked: Checked, autojump_clock: MockClock
) -> None:
    first = next(receipt for receipt in checked.receipts if receipt.stage == 0)
    stated = Boundary(b"i" * 32, first.batches[1].side_root, first.batches[1].output_root)
    place = Place(first.job, first.unit, 1, Side.IN, first.worker)
    key = checked.makers.makers[CHECKER].node.chain.signer
    ask, other = Ask(place, key), Place(first.job, first.unit, 1, Side.IN, b"n" * 32)
    with pytest.raises(Unserved):
        await checked.recheck.judge(ask, Stated(stated, first.class_id))
    with pytest.raises(Unserved):
        await checked.recheck.compute(Ask(other, key))
    with trio.fail_after(LEFT_S):  # no time to look again: what a try found out holds, no more
        with pytest.raises(Unserved):
            await checked.recheck.judge(ask, Stated(stated, first.class_id))
        with pytest.raises(NoTimeLeft):
            await checked.recheck.judge(Ask(place, key), Stated(stated, first.class_id))
