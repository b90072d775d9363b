"""Nodes that evaluate a model on datasets of their own, on a network in memory."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
import trio

from prsm.consensus.ledger.audit_records import PLEDGERS_KEY, Pledger, Pledgers
from prsm.consensus.ledger.evaluations import Score, read_score
from prsm.consensus.ledger.state import State
from prsm.node.inference.evaluation.requester import Evaluations, EvaluationWish, Found
from prsm.node.inference.evaluation.worker import Evaluator
from prsm.node.inference.terms import Terms
from prsm.protocol.messages.models import ManifestFile, ModelManifest
from prsm.protocol.messages.pipe import WorkerFailed
from prsm.protocol.slices import LABEL, encode_slices
from prsm.protocol.tensors import Dtype, Tensor, TensorHead
from prsm.protocol.transactions.payloads import REGISTER_DATASET, REGISTER_MODEL, RegisterModel
from prsm.protocol.transactions.registry import RegisterDataset
from tests.tools.work import (
    MODEL,
    WIDTH,
    AdderRunner,
    Cluster,
    Node,
    given_rows,
    make_cluster,
    make_manifest,
    whole_run,
)
from tests.tools.work_chain import VERIFIER

DATASET: Final = b"\x01\x55\x12\x20" + b"d" * 32
OTHER: Final = b"\x01\x55\x12\x20" + b"o" * 32  # a dataset of other inputs
ROWS: Final = (4, 4, 3)
PRICE: Final = 10


def a_slice(count: int, *, wrong: int = 0) -> tuple[Tensor, ...]:
    """Inputs of the adder, and as labels what it answers, but for the first rows."""
    answer = whole_run(count)
    rows = [answer[at : at + WIDTH] for at in range(0, len(answer), WIDTH)]
    classes = [row.index(max(row)) for row in rows]
    labels = [(one + (place < wrong)) % WIDTH for place, one in enumerate(classes)]
    raw = b"".join(value.to_bytes(8, "little") for value in labels)
    return (*given_rows(count), Tensor(TensorHead(LABEL, Dtype.I64, (count,)), raw))


def dataset_manifest() -> ModelManifest:
    return msgspec.structs.replace(
        make_manifest(),
        name="sums",
        kind="dataset",
        shards=(),
        files=(ManifestFile("data.slices", DATASET, 1, bytes(32)),),
    )


@dataclass
class Shelf:
    """The `Models` port: the adder, and two datasets in files."""

    folder: Path
    manifests: dict[bytes, ModelManifest] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.manifests |= {MODEL: make_manifest()}
        self.manifests |= {DATASET: dataset_manifest(), OTHER: dataset_manifest()}
        slices = [a_slice(count, wrong=place) for place, count in enumerate(ROWS)]
        self._path(DATASET).write_bytes(encode_slices(slices))
        self._path(OTHER).write_bytes(encode_slices([part[1:] for part in slices]))

    def _path(self, cid: bytes) -> Path:
        return self.folder / cid[4:].hex()

    async def manifest(self, cid: bytes) -> ModelManifest:
        await trio.lowlevel.checkpoint()
        if cid not in self.manifests:
            raise WorkerFailed("no such manifest")
        return self.manifests[cid]

    async def file(self, cid: bytes, index: int) -> Path:
        await trio.lowlevel.checkpoint()
        if cid == MODEL:
            return Path("/shards") / self.manifests[cid].files[index].path
        return self._path(cid)

    @asynccontextmanager
    async def using(self, cid: bytes, index: int, *, holder: str) -> AsyncIterator[Path]:
        assert holder
        yield await self.file(cid, index)

    def held(self) -> tuple[bytes, ...]:
        return tuple(self.manifests)


@dataclass
class Lab:
    cluster: Cluster
    evaluations: Evaluations
    publisher: Node

    async def evaluate(self, dataset: bytes = DATASET, *, cap: int | None = None) -> Found:
        # The clock runs ahead while files are read in threads: the deadline is far.
        wish = EvaluationWish(MODEL, dataset, cap, deadline_ms=36_000_000)
        return await self.evaluations.evaluate(wish)

    def score(self, dataset: bytes = DATASET) -> Score:
        return read_score(State(self.cluster.world.state), MODEL, dataset)

    def drawn(self, job: bytes) -> list[Node]:
        by_account = {node.address: node for node in self.cluster.nodes}
        return [by_account[each] for each in drawn(self.cluster.requester, job)]


def drawn(node: Node, job: bytes) -> tuple[bytes, ...]:
    """As that node's ledger has it; nobody before the draw."""
    found = node.chain.evaluation(job)
    return () if found is None else found.drawn or ()


def register(cluster: Cluster, publisher: Node) -> None:
    """Model, datasets and pledges, in the blocks before."""
    world = cluster.world
    model = RegisterModel(MODEL, "adder", "1.0.0", bytes(32), 1, ())
    world.submit(publisher.address, REGISTER_MODEL, model)
    for place, cid in enumerate((DATASET, OTHER)):
        named = RegisterDataset(cid, "sums", f"1.{place}.0", bytes(32), 1, sum(ROWS), 0, ())
        world.submit(publisher.address, REGISTER_DATASET, named)
    world.make_block()
    listed = sorted(node.address for node in cluster.nodes)
    state = State(world.state)
    state.write(PLEDGERS_KEY, Pledgers(tuple(Pledger(each, 0) for each in listed)))
    world.state.update({key: raw for key, raw in state.changes() if raw})
    world.make_block()


async def make_lab(nursery: trio.Nursery, folder: Path) -> Lab:
    """Seven nodes that evaluate; the first asks, the last published model and datasets."""
    shelf = Shelf(folder)
    cluster = make_cluster(size=7, models=shelf, runner=lambda _index: AdderRunner(make_manifest()))
    register(cluster, cluster.nodes[6])
    ids = iter(range(1, 100))
    for node in cluster.nodes:
        evaluator = Evaluator(node.executor._desk, node.chain, Terms(price_per_row=PRICE))
        await nursery.start(evaluator.run)
    await cluster.start(nursery)
    requester = cluster.requester
    evaluations = Evaluations(
        requester.network,
        requester.chain,
        shelf,
        VERIFIER,
        new_id=lambda: next(ids).to_bytes(32, "big"),
    )
    await nursery.start(evaluations.run)
    return Lab(cluster, evaluations, cluster.nodes[6])
