"""A requester and workers in one process: memory network, the ledger's own rules, small shards.

The chain here is a mapping, the real rules of `consensus/ledger` and a task that makes blocks.
Shards add numbers to bytes, so every split of six steps has the same answer as the whole.
"""

import struct
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import trio
from typing_extensions import override

from prsm.node.clock import TrioClock
from prsm.node.inference.capacity import CapacityDesk
from prsm.node.inference.claims import Claims
from prsm.node.inference.desk import Desk
from prsm.node.inference.drain import Drain
from prsm.node.inference.executor import Executor
from prsm.node.inference.interface import AllowAll, MemoryReceipts, Models, Runner, Session
from prsm.node.inference.jobrun import Requester
from prsm.node.inference.jobs import Jobs
from prsm.node.inference.links import Links
from prsm.node.inference.pipeline import Patience
from prsm.node.inference.probing import ProbeDesk
from prsm.node.inference.quotes import QuoteDesk
from prsm.node.inference.review import Reviewer
from prsm.node.inference.runner import Batch, Batches, Limits
from prsm.node.inference.shards import ShardCache
from prsm.node.inference.terms import Terms
from prsm.node.net.handshake import ChainIdentity
from prsm.node.net.memory import MemoryHub
from prsm.node.net.network import PeerNetwork
from prsm.protocol.ed25519 import Ed25519Signer
from prsm.protocol.messages.models import (
    Compute,
    ManifestFile,
    ModelManifest,
    Shard,
    TensorSpec,
)
from prsm.protocol.messages.pipe import InputMismatch, ModelRefused, WorkerFailed
from prsm.protocol.signing import sha256
from prsm.protocol.tensors import Dtype, Tensor, TensorHead
from prsm.storage.errors import Full
from tests.tools.work_chain import VERIFIER, MemoryChain, World, seed

STEPS: Final = 6
WIDTH: Final = 5
RUNTIME: Final = "adder 1"
MODEL: Final = b"\x01\x55\x12\x20" + b"m" * 32
ROOMY: Final = Limits(shards_max=64, memory_bytes_max=2**20, run_seconds=60)
NAN_BYTE: Final = 255  # what the adder refuses, as a session refuses NaN


def tensor(name: str, rows: Sequence[bytes]) -> Tensor:
    """A uint8 tensor (rows, width)."""
    return Tensor(TensorHead(name, Dtype.U8, (len(rows), len(rows[0]))), b"".join(rows))


def given_rows(count: int, *, width: int = WIDTH) -> tuple[Tensor, ...]:
    """Inputs `x` and `mask` of a job, values below 100."""
    rows = [bytes((7 * row + column) % 100 for column in range(width)) for row in range(count)]
    masks = [bytes(column % 2 for column in range(width)) for _ in range(count)]
    return tensor("x", rows), tensor("mask", masks)


def whole_run(count: int, *, width: int = WIDTH) -> bytes:
    """What all six steps make of `given_rows`, computed at once."""
    x, mask = given_rows(count, width=width)
    return bytes((a + STEPS * (1 + b)) % 251 for a, b in zip(x.data, mask.data, strict=True))


def _spec(name: str, dtype: Dtype = Dtype.U8) -> TensorSpec:
    return TensorSpec(name, dtype, ("batch", "width"))


def make_manifest(*, made: Dtype = Dtype.U8) -> ModelManifest:
    """Shards for 1, 2 and 3 stages; file i is shard i. What they make is of a type."""
    shards: list[Shard] = []
    files: list[ManifestFile] = []
    for stages in (1, 2, 3):
        for index in range(stages):
            cut = "x" if index == 0 else f"cut{index}"
            out = "y" if index == stages - 1 else f"cut{index + 1}"
            place = len(files)
            files.append(ManifestFile(f"{stages}-{index}", MODEL, 1, bytes(32)))
            shards.append(
                Shard(
                    stages=stages,
                    index=index,
                    file=place,
                    golden=place,
                    inputs=(_spec(cut), _spec("mask")),
                    outputs=(_spec(out, made),),
                    weight_flops=1,
                    weight_bytes=1,
                    weights=(),
                )
            )
    return ModelManifest(
        version=3,
        name="adder",
        semver="1.0.0",
        kind="onnx",
        profile="unixfs-v1-2025",
        files=tuple(files),
        shards=tuple(shards),
        tokenizer=0,
        compute=Compute(RUNTIME, "", MODEL, bytes(32)),
        licence="MIT",
        publisher=bytes(32),
        parents=(),
        created_ms=0,
        sealing=(),
        card=None,
        chain_id=bytes(8),
        signature=None,
    )


class FullDisk(MemoryReceipts):
    """Receipts on a disk that is full for some tries."""

    def __init__(self, tries: int) -> None:
        super().__init__()
        self.tries = tries

    @override
    async def keep(self, job: bytes, unit: int, receipt: bytes) -> None:
        if self.tries > 0:
            self.tries -= 1
            raise Full("the disk is full")
        await super().keep(job, unit, receipt)


class MemoryModels:
    """The `Models` port: one manifest, files named by their place."""

    def __init__(self, manifest: ModelManifest, folder: Path = Path("/shards")) -> None:
        self._manifest, self._folder = manifest, folder

    async def manifest(self, cid: bytes) -> ModelManifest:
        await trio.lowlevel.checkpoint()
        if cid != MODEL:
            raise WorkerFailed("no such model")
        return self._manifest

    async def file(self, cid: bytes, index: int) -> Path:
        await trio.lowlevel.checkpoint()
        assert cid == MODEL
        return self._folder / self._manifest.files[index].path

    @asynccontextmanager
    async def using(self, cid: bytes, index: int, *, holder: str) -> AsyncIterator[Path]:
        assert holder
        yield await self.file(cid, index)

    def held(self) -> tuple[bytes, ...]:
        return (MODEL,)


Hook = Callable[[str, int, tuple[Tensor, ...]], tuple[Tensor, ...]]  # shard, run, outputs


@dataclass
class Adder:
    """A session that adds: `steps` times 1 + mask to every byte, modulo 251."""

    name: str
    steps: int
    out: str
    runner: "AdderRunner"
    cpu_us: int = 0
    runs: int = 0
    is_dead: bool = False  # the next run finds out

    @property
    def class_id(self) -> bytes:
        return sha256(self.runner.flavour, self.name.encode())

    async def run(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        await trio.sleep(self.runner.run_s)
        if self.is_dead:
            self.is_dead = False
            raise WorkerFailed("the worker died")
        self.runs += 1
        self.cpu_us += self.runner.cpu_us
        if [(t.head.dtype, t.head.shape) for t in tensors] != [
            (Dtype.U8, tensors[0].head.shape)
        ] * 2:
            raise InputMismatch("two tensors of bytes and of one shape go")
        values, mask = tensors
        if NAN_BYTE in values.data:
            raise InputMismatch(f"tensor {values.head.name!r} holds NaN or infinity")
        data = bytes(
            (a + self.steps * (1 + b)) % 251 for a, b in zip(values.data, mask.data, strict=True)
        )
        head = TensorHead(self.out, Dtype.U8, values.head.shape)
        return self.runner.hook(self.name, self.runs, (Tensor(head, data),))

    async def compare(self, ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> int:
        await trio.sleep(self.runner.run_s)
        return 0 if tuple(ours) == tuple(theirs) else self.runner.gap_ppb


def honest(_name: str, _run: int, outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Leave the outputs as they are."""
    return outputs


def as_floats(_name: str, _run: int, outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Bytes as float32."""
    (first,) = outputs
    data = struct.pack(f"<{len(first.data)}f", *first.data)
    return (Tensor(TensorHead(first.head.name, Dtype.F32, first.head.shape), data),)


def corrupt(_name: str, _run: int, outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Change the first byte."""
    first = outputs[0]
    return (Tensor(first.head, bytes([first.data[0] ^ 1]) + first.data[1:]),)


@dataclass
class AdderRunner:
    """The `Runner` port without processes."""

    manifest: ModelManifest
    hook: Hook = honest
    flavour: bytes = b"one class"
    run_s: float = 0.01
    cpu_us: int = 2000
    gap_ppb: int = 2**31 - 1  # between results that differ
    runtime: str = RUNTIME
    opened: list[str] = field(default_factory=list)
    limits: Limits = ROOMY
    now_open: int = 0

    def open(
        self, shard: Path, *, golden: Path, weights: Sequence[Path] = ()
    ) -> AbstractAsyncContextManager[Session]:
        assert golden == shard
        assert not weights
        return self._open(shard.name)

    @asynccontextmanager
    async def _open(self, name: str) -> AsyncIterator[Session]:
        await trio.sleep(0.02)
        known = {f"{s.stages}-{s.index}": s for s in self.manifest.shards}
        if (found := known.get(name)) is None:
            raise ModelRefused(f"{name} is no shard")
        if self.now_open >= self.limits.shards_max:
            raise WorkerFailed(f"{self.now_open} shards are open, at most that many")
        self.opened.append(name)
        self.now_open += 1
        try:
            yield Adder(name, STEPS // found.stages, found.outputs[0].name, self)
        finally:
            self.now_open -= 1

    async def tokenise(
        self, tokenizer: Path, texts: Sequence[str], *, rows_per_batch: int
    ) -> Batches:
        """Rows of equal length together, longest first: another order than given."""
        await trio.lowlevel.checkpoint()
        if not texts:
            raise InputMismatch("no text")
        assert tokenizer.name
        order = sorted(range(len(texts)), key=lambda row: -len(texts[row]))
        batches: list[Batch] = []
        for start in range(0, len(order), rows_per_batch):
            rows = tuple(order[start : start + rows_per_batch])
            values = tensor("x", [texts[row].encode().ljust(WIDTH)[:WIDTH] for row in rows])
            masks = tensor("mask", [bytes(WIDTH) for _ in rows])
            batches.append(Batch(rows, (values, masks)))
        return Batches(tuple(batches))


@dataclass
class Node:
    """All of a node that inference needs."""

    index: int
    network: PeerNetwork
    chain: MemoryChain
    runner: AdderRunner
    shards: ShardCache
    claims: Claims
    executor: Executor
    jobs: Jobs
    links: Links
    drain: Drain
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    @property
    def address(self) -> bytes:
        return self.chain.address

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """All its parts, until cancelled or killed."""
        with self.scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(self.network.run)
                await nursery.start(self.shards.run)
                await nursery.start(self.claims.run)
                await nursery.start(self.executor.run)
                await nursery.start(self.drain.run)
                await nursery.start(self.jobs.run)
                task_status.started()

    def kill(self) -> None:
        """Take it away without a word."""
        self.scope.cancel()


@dataclass
class Cluster:
    """Node 0 is the requester, the others work."""

    hub: MemoryHub
    world: World
    nodes: list[Node]

    @property
    def requester(self) -> Node:
        return self.nodes[0]

    @property
    def workers(self) -> list[Node]:
        """The workers in the order a plan takes them: by account."""
        return sorted(self.nodes[1:], key=lambda node: node.address)

    async def start(self, nursery: trio.Nursery) -> None:
        await nursery.start(self.world.run)
        for node in self.nodes:
            await nursery.start(node.run)
        for one in self.nodes:
            for other in self.nodes[: one.index]:
                await one.network.connect(self.hub.address(other.network.peer_id))


def _counted_ids() -> Callable[[], bytes]:
    ids = iter(range(1, 1000))
    return lambda: next(ids).to_bytes(32, "big")


def make_cluster(
    size: int = 4,
    *,
    runner: Callable[[int], Runner] | None = None,
    models: Models | None = None,
    patience: Patience | None = None,
    price_per_row: int = 10,
    settle_after_ms: int = 30_000,
    reviewer: Callable[[ShardCache], Reviewer] | None = None,
) -> Cluster:
    """Nodes that do not run yet."""
    hub, world, manifest = MemoryHub(), World(size), make_manifest()
    identity = ChainIdentity(chain=world.genesis.chain_id, genesis=world.genesis.digest)
    clock = TrioClock()
    nodes = []
    for index in range(size):
        network = hub.network(Ed25519Signer(seed(100 + index)).public_key, identity)
        chain = MemoryChain(world, index)
        held = models or MemoryModels(manifest)
        adder = AdderRunner(manifest)
        chosen: Runner = runner(index) if runner else adder
        shards = ShardCache(chosen, held)
        claims = Claims(network, chain, MemoryReceipts(), VERIFIER, settle_after_ms=settle_after_ms)
        drain = Drain(network, partial(getattr, claims, "unbound"))
        desk = Desk(
            *(network, chain, held, shards, claims, AllowAll(), VERIFIER, clock), drain=drain
        )
        executor = Executor(desk, Terms(price_per_row=price_per_row))
        links = Links(network, chain, VERIFIER)
        CapacityDesk(network, chain, held, standing=executor.standing)
        QuoteDesk(network, chain, standing=executor.standing)
        ProbeDesk(network, clock)
        requester = Requester(
            *(links, chain, held, chosen, AllowAll(), clock, patience or Patience()),
            shards=shards,
            reviewer=reviewer(shards) if reviewer else None,
        )
        jobs = Jobs(requester, new_id=_counted_ids())
        parts = network, chain, adder, shards, claims, executor, jobs, links, drain
        nodes.append(Node(index, *parts))
    return Cluster(hub, world, nodes)
