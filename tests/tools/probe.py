"""A peer that sends a worker what it likes, with the account that locked the job."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import trio

from prsm.node.inference.feeds import Target, feed_over
from prsm.node.inference.interface import Models
from prsm.node.inference.transfer import cut
from prsm.node.inference.verify import input_root
from prsm.node.net.handshake import ChainIdentity
from prsm.node.net.interface import Channel, Incoming
from prsm.node.net.network import PeerNetwork
from prsm.protocol.codec import Record
from prsm.protocol.ed25519 import Ed25519Signer
from prsm.protocol.messages.work import (
    Accepted,
    Open,
    Push,
    Result,
    WorkFailed,
    open_statement,
)
from prsm.protocol.receipts import Feed, WorkKind, sign_feed
from prsm.protocol.tensors import Tensor
from prsm.protocol.transactions.payloads import LOCK, Lock, Unit
from tests.tools.work import MODEL, Cluster, Node, given_rows, make_cluster
from tests.tools.work_chain import seed

JOB = b"j" * 32
PRICE = 10
ROWS = (4, 4, 2)


@dataclass
class Probe:
    """A peer that sends what it likes, with the account that locked the job."""

    cluster: Cluster
    network: PeerNetwork
    rows: tuple[int, ...] = ROWS  # of the batches it locks
    is_open_ended: bool = False
    results: list[Result] = field(default_factory=list)
    failures: list[WorkFailed] = field(default_factory=list)
    heard: trio.Event = field(default_factory=trio.Event)

    @property
    def worker(self) -> Node:
        return self.cluster.nodes[1]

    @property
    def unit_workers(self) -> tuple[bytes, ...]:
        return tuple(node.address for node in self.cluster.nodes[1:])

    def take_result(self, incoming: Incoming) -> None:
        assert isinstance(incoming.message, Result)
        self.results.append(incoming.message)
        self.heard.set()

    def take_failure(self, incoming: Incoming) -> None:
        assert isinstance(incoming.message, WorkFailed)
        self.failures.append(incoming.message)
        self.heard.set()

    async def lock(self, **changes: object) -> None:
        terms = {
            "kind": WorkKind.INFER,
            "model": MODEL,
            "stages": 2,
            "stage": 0,
            "first": 0,
            "count": len(self.rows),
            "needed": 2,
            "price_per_row": PRICE,
            "rates": None,
            "workers": self.unit_workers,
            **changes,
        }
        chain = self.cluster.requester.chain
        lock = Lock(
            job=JOB,
            tenant=b"",
            asset=0,
            parent=None,
            batch_rows=self.rows,
            units=(Unit(**terms),),  # type: ignore[arg-type]  # keyword by keyword
            budget=0,
            shares=(),
            deadline_ms=self.cluster.world.time_ms + 100_000,
            is_open_ended=self.is_open_ended,
        )
        result = await chain.wait_committed(await chain.submit(LOCK, lock))
        assert result.ok

    def opening(self, *, unit: int = 0, worker: bytes = b"", index: int = 0) -> Open:
        unsigned = Open(JOB, unit, worker or self.worker.address, bytes(64))
        statement = open_statement(
            unsigned,
            chain_id=self.cluster.world.genesis.chain_id,
            requester_peer=self.network.peer_id,
        )
        signature = Ed25519Signer(seed(index)).sign(statement)
        return msgspec.structs.replace(unsigned, signature=signature)

    async def call(self, message: Record) -> Record:
        answer, _ = await self.network.call(
            self.worker.network.peer_id, message, channel=Channel.CTL
        )
        return answer

    async def open(self) -> Accepted:
        answer = await self.call(self.opening())
        assert isinstance(answer, Accepted)
        return answer

    async def push(
        self,
        tensors: Sequence[Tensor],
        *,
        batch: int = 0,
        job: bytes = JOB,
        chunks: int | None = None,
    ) -> None:
        for part in cut(tensors):
            feed = self.feed(tensors, batch=batch, job=job).signature
            push = Push(job, 0, batch, part.chunk, chunks or part.chunks, part.heads, feed)
            await self.send(push, part.data)

    def feed(
        self, tensors: Sequence[Tensor], *, batch: int = 0, job: bytes = JOB, index: int = 0
    ) -> Feed:
        """The word of a node for tensors of stage 0, by default of the requester."""
        chain_id = self.cluster.world.genesis.chain_id
        target = Target(job, 0, batch, stage=0)
        return sign_feed(feed_over(target, tensors), Ed25519Signer(seed(index)), chain_id=chain_id)

    async def send(self, push: Record, data: bytes = b"") -> None:
        await self.network.send(self.worker.network.peer_id, push, channel=Channel.BULK, tail=data)

    async def next_answer(self) -> None:
        with trio.fail_after(60):
            await self.heard.wait()
        self.heard = trio.Event()

    async def assert_alive(self) -> None:
        """An honest batch is done as if nothing had happened."""
        tensors = given_rows(4)
        await self.push(tensors, batch=1)
        while not self.results:
            await self.next_answer()
        result = self.results[-1]
        assert result.batch == 1
        assert result.input_root == input_root(tensors, stage=0)


async def started_probe(nursery: trio.Nursery, models: Models | None = None) -> Probe:
    """Linked to all nodes of a running cluster."""
    cluster = make_cluster(models=models)
    genesis = cluster.world.genesis
    network = cluster.hub.network(
        b"p" * 32, ChainIdentity(chain=genesis.chain_id, genesis=genesis.digest)
    )
    made = Probe(cluster, network)
    network.on_message(Result, made.take_result)
    network.on_message(WorkFailed, made.take_failure)
    await cluster.start(nursery)
    await nursery.start(network.run)
    for node in cluster.nodes:
        await network.connect(cluster.hub.address(node.network.peer_id))
    return made
