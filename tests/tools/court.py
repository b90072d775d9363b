"""A court whose draws a test makes itself, and the lock of a unit that one worker does alone."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import trio

from prsm.node.inference.court import Duty, Opening, Trial
from prsm.node.inference.divergence import Boundary
from prsm.node.inference.verify import batch_root, input_root, side_root
from prsm.protocol.ed25519 import Signer
from prsm.protocol.receipts import Feed, WorkKind, sign_feed
from prsm.protocol.tensors import Tensor
from prsm.protocol.transactions.audits import Finding
from prsm.protocol.transactions.payloads import LOCK, Lock, Unit
from tests.tools.work import MODEL, Node

JOB = b"j" * 32


@dataclass
class FakeCourt:
    """The `Court` port without a ledger."""

    key: Signer | None = None
    drawn: set[bytes] = field(default_factory=set)  # accounts that may see everything
    open_duties: list[Duty] = field(default_factory=list)
    open_trials: list[Trial] = field(default_factory=list)
    audits: list[tuple[int, Boundary]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    sealed: list[Opening] = field(default_factory=list)
    opened: list[Opening] = field(default_factory=list)
    heard: trio.Event = field(default_factory=trio.Event)

    def duties(self) -> Sequence[Duty]:
        return tuple(self.open_duties)

    def trials(self) -> Sequence[Trial]:
        return tuple(self.open_trials)

    def openings(self) -> Sequence[Opening]:
        return tuple(self.sealed)

    def may_see(self, asker: bytes, job: bytes, unit: int, worker: bytes) -> bool:
        assert (job, unit >= 0, len(worker)) == (JOB, True, 32)
        return asker in self.drawn

    def signer(self, check: Duty | Trial) -> Signer:
        assert check.job
        assert self.key is not None
        return self.key

    async def audit(self, duty: Duty, found: Boundary) -> None:
        await trio.lowlevel.checkpoint()
        self.open_duties.remove(duty)
        self.audits.append((duty.batch, found))
        self.heard.set()

    async def judge(self, trial: Trial, finding: Finding) -> None:
        await trio.lowlevel.checkpoint()
        self.open_trials.remove(trial)
        self.findings.append(finding)
        self.heard.set()

    async def open(self, opening: Opening) -> None:
        await trio.lowlevel.checkpoint()
        self.sealed.remove(opening)
        self.opened.append(opening)
        self.heard.set()


async def lock_alone(
    requester: Node,
    worker: Node,
    rows: Sequence[int],
    *,
    stage: int = 0,
    is_open_ended: bool = False,
) -> None:
    """Lock one unit, stage of two, that one worker does alone."""
    unit = Unit(
        kind=WorkKind.INFER,
        model=MODEL,
        stages=2,
        stage=stage,
        first=0,
        count=len(rows),
        needed=1,
        price_per_row=10,
        rates=None,
        workers=(worker.address,),
    )
    chain = requester.chain
    lock = Lock(
        job=JOB,
        tenant=b"",
        asset=0,
        parent=None,
        batch_rows=tuple(rows),
        units=(unit,),
        budget=0,
        shares=(),
        deadline_ms=chain.block_time_ms() + 1_000_000,
        is_open_ended=is_open_ended,
    )
    result = await chain.wait_committed(await chain.submit(LOCK, lock))
    assert result.ok, result.code


def feed_of(requester: Node, tensors: Sequence[Tensor], *, batch: int = 0, stage: int = 0) -> Feed:
    """The requester's word for what it pushed."""
    unsigned = Feed(
        job=JOB,
        unit=0,
        batch=batch,
        input_root=input_root(tensors, stage=stage),
        side_root=side_root(tensors, stage=stage),
        signature=bytes(64),
    )
    chain = requester.chain
    return sign_feed(unsigned, chain.signer, chain_id=chain.chain_id)


def boundary(feed: Feed, outputs: Sequence[Tensor]) -> Boundary:
    """What an honest receipt states."""
    return Boundary(feed.input_root, feed.side_root, batch_root(outputs))
