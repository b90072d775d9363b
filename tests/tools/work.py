"""A requester and workers in one process: memory network, the ledger's own rules, small shards.

The chain here is a mapping, the real rules of `consensus/ledger` and a task that makes blocks.
Shards add numbers to bytes, so every split of six steps has the same answer as the whole.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import trio

from prsm.consensus.ledger.context import Context
from prsm.consensus.ledger.errors import Failed
from prsm.consensus.ledger.genesis import genesis_changes
from prsm.consensus.ledger.halts import is_halted
from prsm.consensus.ledger.kinds import RULES
from prsm.consensus.ledger.records import (
    Balance,
    Committed,
    Job,
    account_key,
    committed_key,
    job_key,
)
from prsm.consensus.ledger.state import State
from prsm.node.clock import TrioClock
from prsm.node.inference.capacity import CapacityDesk
from prsm.node.inference.claims import Claims
from prsm.node.inference.executor import Desk, Executor
from prsm.node.inference.interface import AllowAll, MemoryReceipts, Runner, Session, TxResult
from prsm.node.inference.jobrun import Requester
from prsm.node.inference.jobs import Jobs
from prsm.node.inference.links import Links
from prsm.node.inference.pipeline import Patience
from prsm.node.inference.pool import Batch, Batches
from prsm.node.inference.shards import ShardCache
from prsm.node.inference.terms import Terms
from prsm.node.net.handshake import ChainIdentity
from prsm.node.net.memory import MemoryHub
from prsm.node.net.network import PeerNetwork
from prsm.protocol.codec import Record
from prsm.protocol.ed25519 import Ed25519Signer, Ed25519Verifier
from prsm.protocol.genesis import Allocation, Genesis, Parameters
from prsm.protocol.ids import Height, Millis, TxId
from prsm.protocol.messages.models import (
    Compute,
    ManifestFile,
    ModelManifest,
    Shard,
    TensorSpec,
)
from prsm.protocol.messages.pipe import InputMismatch, WorkerFailed
from prsm.protocol.signing import sha256
from prsm.protocol.tensors import Dtype, Tensor, TensorHead
from prsm.protocol.transactions.results import Code
from prsm.protocol.validators import Validator

STEPS: Final = 6
WIDTH: Final = 5
RUNTIME: Final = "adder 1"
MODEL: Final = b"\x01\x55\x12\x20" + b"m" * 32
FUNDS: Final = 1_000_000_000
VERIFIER: Final = Ed25519Verifier()
NAN_BYTE: Final = 255  # what the adder refuses, as a session refuses NaN


def seed(index: int) -> bytes:
    """Seed of node `index`."""
    return bytes([index + 1]) * 32


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


def _spec(name: str) -> TensorSpec:
    return TensorSpec(name, Dtype.U8, ("batch", "width"))


def make_manifest() -> ModelManifest:
    """Shards for 1, 2 and 3 stages; file i is shard i."""
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
                    outputs=(_spec(out),),
                    weight_flops=1,
                    weight_bytes=1,
                )
            )
    return ModelManifest(
        version=1,
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
    )


@dataclass
class World:
    """The ledger all nodes share, and its blocks."""

    size: int = 4
    block_s: float = 0.05
    heartbeat_s: float = 10.0
    height: int = 1
    time_ms: int = 1_000_000
    executed: list[tuple[int, Record, TxResult]] = field(default_factory=list)

    def __post_init__(self) -> None:
        signers = [Ed25519Signer(seed(i)) for i in range(self.size)]
        self.genesis = Genesis(
            version=1,
            name="work",
            development=True,
            time_ms=0,
            validators=(
                Validator(operator=b"o" * 32, consensus=b"c" * 32, peer_id="peer", stake=1000),
            ),
            allocations=tuple(Allocation(signer.public_key, FUNDS) for signer in signers),
            parameters=Parameters(),
        )
        self.state: dict[bytes, bytes] = {k: v for k, v in genesis_changes(self.genesis) if v}
        self._queue: list[tuple[TxId, bytes, int, Record]] = []
        self.results: dict[TxId, TxResult] = {}
        self.changed = trio.Event()
        self._count = 0

    def submit(self, sender: bytes, kind: int, payload: Record) -> TxId:
        self._count += 1
        tx = TxId(sha256(self._count.to_bytes(8, "big")))
        self._queue.append((tx, sender, kind, payload))
        return tx

    def make_block(self) -> None:
        """Execute what was submitted."""
        self.height += 1
        queue, self._queue = self._queue, []
        for tx, sender, kind, payload in queue:
            self.results[tx] = result = self._execute(sender, kind, payload)
            self.executed.append((kind, payload, result))
        self.changed.set()
        self.changed = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        quiet = 0.0
        while True:
            await trio.sleep(self.block_s)
            quiet += self.block_s
            self.time_ms += int(self.block_s * 1000)
            if self._queue or quiet >= self.heartbeat_s:
                self.make_block()
                quiet = 0.0

    def balance(self, account: bytes) -> int:
        found = State(self.state).read(account_key(account, 0), Balance)
        return found.amount if found else 0

    def _execute(self, sender: bytes, kind: int, payload: Record) -> TxResult:
        state = State(self.state)
        context = Context(
            sender=sender,
            height=Height(self.height),
            time_ms=Millis(self.time_ms),
            chain_id=self.genesis.chain_id,
            parameters=self.genesis.parameters,
            validators=self.genesis.first_validators(),
            verifier=VERIFIER,
        )
        try:
            RULES[kind](state, payload, context)
        except Failed as failed:
            return TxResult(self.height, ok=False, code=failed.code.name)
        for key, value in state.changes():
            if value is None:
                self.state.pop(key, None)
            else:
                self.state[key] = value
        return TxResult(self.height, ok=True, code=Code.DONE.name)


class MemoryChain:
    """The `Chain` port over a shared world."""

    def __init__(self, world: World, index: int) -> None:
        self.world = world
        self.signer = Ed25519Signer(seed(index))
        self.chain_id = world.genesis.chain_id
        self.address = bytes(self.signer.public_key)
        self.mutes: set[int] = set()  # kinds this node never sends

    def height(self) -> int:
        return self.world.height

    def block_time_ms(self) -> int:
        return self.world.time_ms

    async def wait_height(self, height: int) -> None:
        await trio.lowlevel.checkpoint()
        while self.world.height < height:
            await self.world.changed.wait()

    def job(self, job: bytes) -> Job | None:
        return State(self.world.state).read(job_key(job), Job)

    def committed(self, worker: bytes, receipt_hash: bytes) -> Committed | None:
        return State(self.world.state).read(committed_key(worker, receipt_hash), Committed)

    def is_halted(self, cid: bytes) -> bool:
        return is_halted(State(self.world.state), cid)

    async def submit(self, kind: int, payload: Record) -> TxId:
        await trio.lowlevel.checkpoint()
        if kind in self.mutes:
            return TxId(bytes(32))
        return self.world.submit(self.address, kind, payload)

    async def wait_committed(self, tx: TxId) -> TxResult:
        await trio.lowlevel.checkpoint()
        while tx not in self.world.results:
            await self.world.changed.wait()
        return self.world.results[tx]


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

    @property
    def class_id(self) -> bytes:
        return sha256(self.runner.flavour, self.name.encode())

    async def run(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        await trio.sleep(self.runner.run_s)
        self.runs += 1
        self.cpu_us += 2000
        values, mask = tensors
        if NAN_BYTE in values.data:
            raise InputMismatch(f"tensor {values.head.name!r} holds NaN or infinity")
        data = bytes(
            (a + self.steps * (1 + b)) % 251 for a, b in zip(values.data, mask.data, strict=True)
        )
        head = TensorHead(self.out, Dtype.U8, values.head.shape)
        return self.runner.hook(self.name, self.runs, (Tensor(head, data),))


def honest(_name: str, _run: int, outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Leave the outputs as they are."""
    return outputs


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
    runtime: str = RUNTIME
    opened: list[str] = field(default_factory=list)

    def open(self, shard: Path, *, golden: Path) -> AbstractAsyncContextManager[Session]:
        assert golden == shard
        return self._open(shard.name)

    @asynccontextmanager
    async def _open(self, name: str) -> AsyncIterator[Session]:
        await trio.sleep(0.02)
        stages, index = (int(part) for part in name.split("-"))
        found = next(s for s in self.manifest.shards if (s.stages, s.index) == (stages, index))
        self.opened.append(name)
        yield Adder(name, STEPS // stages, found.outputs[0].name, self)

    async def tokenise(
        self, tokenizer: Path, texts: Sequence[str], *, rows_per_batch: int
    ) -> Batches:
        """Rows of equal length together, longest first: another order than given."""
        await trio.lowlevel.checkpoint()
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
    models: MemoryModels | None = None,
    patience: Patience | None = None,
    price_per_row: int = 10,
    settle_after_ms: int = 30_000,
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
        desk = Desk(network, chain, held, shards, claims, AllowAll(), VERIFIER, clock)
        executor = Executor(desk, Terms(price_per_row=price_per_row))
        links = Links(network, chain, VERIFIER)
        CapacityDesk(network, chain, held, standing=executor.standing)
        requester = Requester(links, chain, held, chosen, AllowAll(), clock, patience or Patience())
        jobs = Jobs(requester, new_id=_counted_ids())
        nodes.append(Node(index, network, chain, adder, shards, claims, executor, jobs, links))
    return Cluster(hub, world, nodes)
