"""A cluster in which everybody keeps what work is checked by and answers, and one node checks."""

from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import trio

from prsm.node.inference.audits import Auditor
from prsm.node.inference.court import Duty, Trial
from prsm.node.inference.divergence import Boundary
from prsm.node.inference.evidence import Evidence, Place
from prsm.node.inference.inquiry import Inquiry, Witness
from prsm.node.inference.recheck import Recheck
from prsm.protocol.messages.audit import Side
from prsm.protocol.messages.models import Shard
from prsm.protocol.receipts import Feed
from prsm.protocol.tensors import Dtype, Tensor
from prsm.storage.evidence import EvidenceFiles
from tests.tools.court import JOB, FakeCourt, feed_of, lock_alone
from tests.tools.work import (
    MODEL,
    Cluster,
    MemoryModels,
    Node,
    as_floats,
    given_rows,
    make_manifest,
)
from tests.tools.work_chain import VERIFIER

REQUESTER, WORKER, CHECKER = 0, 1, 2


def shard_of(stage: int) -> Shard:
    """A stage of two."""
    shards = make_manifest().shards
    return next(shard for shard in shards if (shard.stages, shard.index) == (2, stage))


@dataclass
class Scene:
    """A cluster in which everybody keeps and answers, and node 2 checks."""

    cluster: Cluster
    folder: Path
    court: FakeCourt = field(default_factory=FakeCourt)
    evidence: list[Evidence] = field(default_factory=list)
    recheck: Recheck = field(init=False)

    def node(self, index: int) -> Node:
        return self.cluster.nodes[index]

    async def start(self, nursery: trio.Nursery) -> None:
        for node in self.cluster.nodes:
            node.runner.hook = as_floats
            kept = Evidence(EvidenceFiles(self.folder / str(node.index)), node.chain)
            Witness(node.network, node.chain, kept, VERIFIER, may_see=self.court.may_see)
            self.evidence.append(kept)
        await self.cluster.start(nursery)
        for kept in self.evidence:
            await nursery.start(kept.run)
        checker = self.node(CHECKER)
        self.court.drawn.add(checker.address)
        self.court.key = checker.chain.signer
        inquiry = Inquiry(checker.network, checker.chain, VERIFIER)
        self.recheck = Recheck(inquiry, MemoryModels(make_manifest(made=Dtype.F32)), checker.shards)
        await nursery.start(Auditor(checker.chain, self.court, self.recheck).run)

    def place(self, side: Side = Side.IN) -> Place:
        return Place(JOB, 0, 0, side, self.node(WORKER).address)

    async def feed(self, rows: int = 4, *, width: int = 5, stage: int = 0) -> Feed:
        """Lock a unit, and keep its inputs at the worker."""
        await lock_alone(self.node(REQUESTER), self.node(WORKER), [rows], stage=stage)
        tensors = self.inputs(rows, width=width, stage=stage)
        feed = feed_of(self.node(REQUESTER), tensors, stage=stage)
        await self.evidence[WORKER].keep(self.place(), tensors, feed.signature)
        return feed

    def inputs(self, rows: int = 4, *, width: int = 5, stage: int = 0) -> tuple[Tensor, ...]:
        x, mask = given_rows(rows, width=width)
        head = msgspec.structs.replace(x.head, name="cut1" if stage else "x")
        return Tensor(head, x.data), mask

    async def computed(self, *, stage: int = 0) -> tuple[Tensor, ...]:
        """What an honest worker makes of the inputs."""
        async with self.node(3).shards.use(MODEL, shard_of(stage)) as session:
            return await session.run(self.inputs(stage=stage))

    async def heard(self) -> None:
        with trio.fail_after(1000):
            await self.court.heard.wait()

    def duty(self, *, batch: int = 0, window_ms: int = 60_000) -> Duty:
        until = self.cluster.world.time_ms + window_ms
        return Duty(JOB, 0, self.node(WORKER).address, batch, until)

    def trial(self, stated: Boundary, class_id: bytes) -> Trial:
        until = self.cluster.world.time_ms + 60_000
        worker = self.node(WORKER).address
        return Trial(JOB, 0, worker, 0, stated, class_id, b"r" * 32, b"o" * 32, until)
