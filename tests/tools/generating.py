"""Nodes that generate, in one process: a made-up model whose stages keep real state between steps.

The model adds: the first stage gives of each token its id and the sum so far, later ones add to
both, the last one chooses a token from all it has seen. Whoever mixes two caches up, loses a step
or takes one twice, chooses other tokens.
"""

import struct
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import trio

from prsm.node.clock import TrioClock
from prsm.node.inference.commits import commit
from prsm.node.inference.desk import Desk
from prsm.node.inference.evidence import Evidence
from prsm.node.inference.generate.course import Patience
from prsm.node.inference.generate.generation import GenerateRequest, Generation, GenerationState
from prsm.node.inference.generate.held import Room
from prsm.node.inference.generate.service import Generations
from prsm.node.inference.generate.speech import Speech
from prsm.node.inference.generate.worker import Sessions
from prsm.node.inference.interface import AllowAll
from prsm.node.inference.jobrun import Requester
from prsm.node.inference.runner import Batches, Limits, Session
from prsm.node.inference.terms import Terms
from prsm.protocol.errors import PrsmError
from prsm.protocol.generating import Sampling
from prsm.protocol.messages.models import ManifestFile, ModelManifest, Shard, TensorSpec
from prsm.protocol.messages.pipe import InputMismatch, WorkerFailed
from prsm.protocol.messages.steps import PositionMismatch, QuotaFull, Step
from prsm.protocol.signing import sha256
from prsm.protocol.tensors import Dtype, Tensor, TensorHead
from prsm.protocol.transactions.audits import Pledge
from prsm.protocol.transactions.payloads import PLEDGE
from tests.tools.work import (
    MODEL,
    RUNTIME,
    Cluster,
    MemoryModels,
    Node,
    make_cluster,
    make_manifest,
)
from tests.tools.work_chain import VERIFIER

VOCABULARY: Final = 256
CONTEXT: Final = 150
END: Final = 0
STAGES: Final = (1, 2, 3)
PLEDGED: Final = 100_000_000
POSITION_BYTES: Final = 8  # of the cache of one stage

_IDS = TensorSpec("ids", Dtype.I64, ("batch", "tokens"))
_PAST = TensorSpec("past_k0", Dtype.F32, ("batch", "past", 2))
_PRESENT = TensorSpec("present_k0", Dtype.F32, ("batch", "more", 2))
_LOGITS = TensorSpec("logits", Dtype.F32, ("batch", VOCABULARY))
Row = tuple[float, float]


def _cut(index: int) -> TensorSpec:
    return TensorSpec(f"cut{index}", Dtype.F32, ("batch", "tokens", 2))


def generating_manifest() -> ModelManifest:
    """Shards for 1, 2 and 3 stages; file i is shard i, and the tokenizer."""
    shards: list[Shard] = []
    files: list[ManifestFile] = []
    for stages in STAGES:
        for index in range(stages):
            is_last = index == stages - 1
            place = len(files)
            files.append(ManifestFile(f"{stages}-{index}", MODEL, 1, bytes(32)))
            shards.append(
                Shard(
                    stages=stages,
                    index=index,
                    file=place,
                    golden=place,
                    inputs=(_IDS if index == 0 else _cut(index), _PAST),
                    outputs=(_LOGITS if is_last else _cut(index + 1), _PRESENT),
                    weight_flops=1,
                    weight_bytes=1,
                    weights=(),
                )
            )
    whole = make_manifest()
    return ModelManifest(
        **{
            name: getattr(whole, name)
            for name in whole.__struct_fields__
            if name not in ("files", "shards", "name", "tokenizer")
        },
        name="adding",
        files=(*files, ManifestFile("tokenizer.json", MODEL, 1, bytes(32))),
        shards=tuple(shards),
        tokenizer=len(files),
    )


def tokens_of(prompt: str, count: int, *, seed: int = 0) -> list[int]:
    """What the model goes on with, without stages or caches: the dumb twin."""
    ids = list(prompt.encode())
    total = sum(ids)
    found: list[int] = []
    for _ in range(count):
        found.append(_next(total, len(ids), ids[-1], seed))
        ids.append(found[-1])
        total += ids[-1]
    return found


def text_of(tokens: Sequence[int]) -> str:
    return "".join(chr(token) for token in tokens)


def _next(total: int, count: int, last: int, seed: int) -> int:
    return 32 + (total * 31 + count * count * 7 + last * 13 + seed) % 90


@dataclass
class Stepper:
    """A session of one shard; its caches go when it dies."""

    name: str
    stages: int
    index: int
    runner: "GeneratingRunner"
    cpu_us: int = 0
    caches: dict[int, list[Row]] = field(default_factory=dict)
    is_dead: bool = False  # the next step finds out

    @property
    def class_id(self) -> bytes:
        return sha256(self.runner.flavour, self.name.encode())

    async def run(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        raise NotImplementedError

    async def compare(self, ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> int:
        raise NotImplementedError

    async def step(self, call: Step, tensor: Tensor) -> Tensor:
        await trio.sleep(self.runner.step_s)
        if self.is_dead:
            self.is_dead, self.caches = False, {}
            raise WorkerFailed("the worker was ended by SIGKILL")
        rows = list(self.caches.get(call.session, []))
        if len(rows) != call.start_position:
            raise PositionMismatch(f"starts at {call.start_position}, holds {len(rows)}")
        if (len(rows) + sum(call.sizes)) * POSITION_BYTES > call.quota_bytes:
            raise QuotaFull("over the quota")
        if len(rows) + sum(call.sizes) > CONTEXT:
            raise InputMismatch(f"position {len(rows)} is beyond the table")
        self.cpu_us += 1000 * len(call.sizes)
        self.runner.steps += len(call.sizes)
        given = list(self._rows(tensor, rows[-1][1] if rows else 0.0))
        chosen: list[int] = []
        for size in call.sizes:
            rows += given[:size]
            given = given[size:]
            if self.index == self.stages - 1:
                assert call.sampling is not None
                chosen.append(self._choose(rows, call.sampling))
        self.caches[call.session] = rows
        if self.index == self.stages - 1:
            head = TensorHead("logits", Dtype.I64, (len(chosen),))
            return Tensor(head, struct.pack(f"<{len(chosen)}q", *chosen))
        made = [value for row in rows[call.start_position :] for value in (row[0], row[1])]
        head = TensorHead(f"cut{self.index + 1}", Dtype.F32, (1, sum(call.sizes), 2))
        return Tensor(head, struct.pack(f"<{len(made)}f", *made))

    async def drop(self, number: int) -> None:
        await trio.lowlevel.checkpoint()
        self.caches.pop(number, None)

    def _rows(self, tensor: Tensor, total: float) -> Iterator[Row]:
        count = tensor.head.shape[1]
        if self.index == 0:
            for token in struct.unpack(f"<{count}q", tensor.data):
                total += token
                yield (float(token), total)
            return
        values = struct.unpack(f"<{2 * count}f", tensor.data)
        yield from zip(values[::2], values[1::2], strict=True)

    def _choose(self, rows: Sequence[Row], sampling: Sampling) -> int:
        last, total = rows[-1]
        token = _next(int(total), len(rows), int(last), sampling.seed)
        return END if token == self.runner.end_at else token


@dataclass
class GeneratingRunner:
    """The `Runner` port without processes."""

    flavour: bytes = b"one class"
    step_s: float = 0.002
    load_s: float = 0.02
    end_at: int = -1  # this token is the end of an answer
    runtime: str = RUNTIME
    limits: Limits = field(default_factory=lambda: Limits(64, 2**40, 60.0))
    opened: list[Stepper] = field(default_factory=list)
    steps: int = 0

    def open(
        self, shard: Path, *, golden: Path, weights: Sequence[Path] = ()
    ) -> AbstractAsyncContextManager[Session]:
        assert golden == shard
        assert not weights
        return self._open(shard.name)

    @asynccontextmanager
    async def _open(self, name: str) -> AsyncIterator[Session]:
        await trio.sleep(self.load_s)
        stages, index = (int(part) for part in name.split("-"))
        stepper = Stepper(name, stages, index, self)
        self.opened.append(stepper)
        yield stepper

    async def tokenise(
        self, tokenizer: Path, texts: Sequence[str], *, rows_per_batch: int
    ) -> Batches:
        raise NotImplementedError


class Bytes:
    """Speech of a tokenizer whose tokens are bytes below 128."""

    ends = frozenset({END})

    async def spell(self, prompt: str) -> tuple[int, ...]:
        await trio.lowlevel.checkpoint()
        return tuple(prompt.encode())

    async def say(self, ids: Sequence[int], *, is_last: bool = False) -> str:
        await trio.lowlevel.checkpoint()
        assert not (ids and is_last)
        return text_of(ids)


@asynccontextmanager
async def speaking_bytes(tokenizer: Path) -> AsyncIterator[Speech]:
    await trio.lowlevel.checkpoint()
    assert tokenizer.name == "tokenizer.json"
    yield Bytes()


@dataclass
class Maker:
    """A node of a cluster with the services of generation."""

    node: Node
    runner: GeneratingRunner
    sessions: Sessions
    generations: Generations
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with self.scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(self.sessions.run)
                await nursery.start(self.generations.run)
                task_status.started()

    def kill(self) -> None:
        """Take the node away without a word."""
        self.scope.cancel()
        self.node.kill()

    async def generate(self, request: GenerateRequest) -> tuple[str, Generation]:
        """Start one, read it to its end; the text and what is known of it."""
        started = self.generations.start(request)
        text = ""
        while True:
            part = await self.generations.read(started, wait_ms=60_000)
            text += part.text
            if part.is_over:
                one = self.generations.get(started)
                if one.error is not None:
                    raise one.error
                return text, one


@dataclass
class Makers:
    """Node 0 asks in most tests; all of them can, and all work."""

    cluster: Cluster
    makers: list[Maker]
    is_paid: bool

    async def start(self, nursery: trio.Nursery) -> None:
        """Start all; paid work of one of one needs a pledge."""
        await self.cluster.start(nursery)
        for maker in self.makers:
            await nursery.start(maker.run)
            if self.is_paid:
                await commit(maker.node.chain, PLEDGE, Pledge(PLEDGED))

    @property
    def workers(self) -> list[Maker]:
        """In the order a route takes them: by account."""
        return sorted(self.makers[1:], key=lambda maker: maker.node.address)


def make_makers(
    size: int = 4,
    *,
    price_per_row: int = 0,
    room: Room | None = None,
    hangup_ms: int = 30_000,
    patience: Patience | None = None,
    keep: Callable[[Node], Evidence] | None = None,
) -> Makers:
    """Nodes that do not run yet; `keep` opens where each keeps what its work is checked by."""
    runners = [GeneratingRunner() for _ in range(size)]
    models = MemoryModels(generating_manifest())
    cluster = make_cluster(
        size, runner=lambda index: runners[index], models=models, price_per_row=price_per_row
    )
    clock, makers = TrioClock(), []
    for node, runner in zip(cluster.nodes, runners, strict=True):
        node.links.evidence = keep(node) if keep else None
        desk = Desk(
            *(node.network, node.chain, models, node.shards, node.claims),
            *(AllowAll(), VERIFIER, clock),
            evidence=node.links.evidence,
            drain=node.drain,
        )
        sessions = Sessions(desk, Terms(price_per_row=price_per_row), room)
        requester = Requester(node.links, node.chain, models, runner, AllowAll(), clock)
        generations = Generations(requester, speaking_bytes, hangup_ms=hangup_ms, patience=patience)
        makers.append(Maker(node, runner, sessions, generations))
    return Makers(cluster, makers, is_paid=price_per_row > 0)


async def refusal_of(maker: Maker, request: GenerateRequest) -> PrsmError:
    """Why a generation fails."""
    try:
        await maker.generate(request)
    except PrsmError as error:
        return error
    raise AssertionError("it was not refused")


async def settled(one: Generation) -> Generation:
    """The generation once its units are settled."""
    await one.wait(GenerationState.DONE)
    return one
