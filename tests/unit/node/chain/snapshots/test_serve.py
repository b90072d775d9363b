"""What peers are shown: whole snapshots, successive epochs, one call of each at a time."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import cast

import pytest
import trio
import trio.testing

from prsm.node.chain.driver import Driver
from prsm.node.chain.snapshots import serve as module
from prsm.node.chain.snapshots.serve import SERVED_MAX, Server
from prsm.node.chain.snapshots.take import kept_epoch
from prsm.node.net.interface import Busy, Incoming
from prsm.protocol.codec import Record, encode
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.sync import (
    EpochProof,
    GetChunk,
    GetChunkPart,
    GetEpochHeaders,
    GetSnapshot,
    GotChunk,
    GotChunkPart,
    GotEpochHeaders,
    SnapshotMeta,
)
from prsm.storage.errors import NotFound
from prsm.storage.ledger import EpochHeader
from prsm.storage.snapshots import SnapshotFiles
from tests.tools.offers import Offer, offer
from tests.tools.wires import Wire


@dataclass
class Store:
    """Epoch headers, as slow as a test wants."""

    kept: list[EpochHeader] = field(default_factory=list)
    gate: trio.Event | None = None

    async def epoch_headers(self, first: int, *, count_max: int) -> list[EpochHeader]:
        await trio.lowlevel.checkpoint()
        if self.gate is not None:
            await self.gate.wait()
        return [item for item in self.kept if item.epoch >= first][:count_max]


@dataclass
class Node:
    network: Wire = field(default_factory=Wire)
    store: Store = field(default_factory=Store)

    async def ask(self, message: Record, *, peer: str = "one") -> tuple[Record, bytes]:
        incoming = Incoming(PeerId(peer), message, b"", b"")
        return await self.network.answers[type(message)](incoming)


@dataclass
class Stage:
    node: Node
    files: SnapshotFiles
    folder: Path
    made: Offer


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    node, files, made = Node(), SnapshotFiles(tmp_path), offer()
    Server(cast("Driver", node), files)
    staging = files.staging("making")
    for chunk in made.chunks:
        staging.put(chunk.root, chunk.raw)
    staging.publish(made.height, encode(made.found), [chunk.root for chunk in made.chunks])
    return Stage(node, files, tmp_path, made)


async def test_snapshot_is_shown_as_it_lies_there(stage: Stage) -> None:
    """Its proof and every chunk, each in the tail of its answer."""
    height = stage.made.height
    shown = await stage.node.ask(GetSnapshot(height=height))
    assert shown == (SnapshotMeta(height=height), encode(stage.made.found))
    for index, chunk in enumerate(stage.made.chunks):
        answer = await stage.node.ask(GetChunk(height=height, index=index))
        assert answer == (GotChunk(height=height, index=index), chunk.raw)


async def test_chunk_over_a_frame_is_shown_in_parts(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first with the usual answer, the others by their offset, none behind its end."""
    monkeypatch.setattr(module, "SYNC_BYTES_MAX", 20)
    height, index = stage.made.height, stage.made.full[0]
    raw = stage.made.chunks[index].raw
    _, shown = await stage.node.ask(GetChunk(height=height, index=index))
    assert len(shown) == 20
    at, part = 0, shown
    for at in range(20, len(raw) + 20, 20):
        ask = GetChunkPart(height=height, index=index, offset=at)
        answer, part = await stage.node.ask(ask)
        assert answer == GotChunkPart(height=height, index=index, offset=at)
        shown += part
    assert (shown, part) == (raw, raw[at:])
    for ask in (
        GetChunkPart(height=99, index=index, offset=20),
        GetChunkPart(height=height, index=index, offset=21),
    ):
        with pytest.raises(NotFound):
            await stage.node.ask(ask)


async def test_what_is_not_there_is_refused(stage: Stage) -> None:
    """Another height, a chunk beyond the list."""
    for ask in (
        GetSnapshot(height=99),
        GetChunk(height=99, index=0),
        GetChunk(height=stage.made.height, index=len(stage.made.chunks)),
    ):
        with pytest.raises(NotFound):
            await stage.node.ask(ask)


def chunk_file(stage: Stage) -> Path:
    root = stage.made.chunks[stage.made.full[0]].root
    return stage.folder / str(stage.made.height) / root.hex()


def meta_file(stage: Stage) -> Path:
    return stage.folder / str(stage.made.height) / "meta"


@pytest.mark.parametrize("which", [chunk_file, meta_file], ids=lambda which: which.__name__)
async def test_damaged_snapshot_is_dropped_before_a_peer_sees_it(
    stage: Stage, which: Callable[[Stage], Path]
) -> None:
    """A flipped bit on our disk must not make us a liar."""
    path = which(stage)
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    ask: Record = GetSnapshot(height=stage.made.height)
    if which is chunk_file:
        ask = GetChunk(height=stage.made.height, index=stage.made.full[0])
    with pytest.raises(NotFound, match="not here"):
        await stage.node.ask(ask)
    assert stage.files.heights() == []


def kept(stage: Stage, epoch: int) -> EpochHeader:
    made = stage.made
    members = made.genesis.validators_of(0).members
    proof = EpochProof(made.found.header, made.found.certificate, members)
    found = kept_epoch(proof)
    return EpochHeader(epoch, found.height, found.header, found.certificate, found.members)


async def test_epochs_are_successive_and_a_hole_ends_them(stage: Stage) -> None:
    """0, 1 and 3 are kept: from 0 there are two, from 2 none, and at most as many as asked."""
    stage.node.store.kept = [kept(stage, epoch) for epoch in (0, 1, 3)]
    for first, count, expected in ((0, 64, 2), (0, 1, 1), (1, 64, 1), (2, 64, 0), (9, 64, 0)):
        answer, _ = await stage.node.ask(GetEpochHeaders(first=first, count=count))
        assert isinstance(answer, GotEpochHeaders)
        assert len(answer.epochs) == expected


async def test_one_call_of_a_peer_and_few_in_all(stage: Stage, nursery: trio.Nursery) -> None:
    """The second call of a peer is `busy`, and so is a peer too many; later both are answered."""
    gate = stage.node.store.gate = trio.Event()
    ask = GetEpochHeaders(first=0, count=1)
    for number in range(SERVED_MAX):
        nursery.start_soon(partial(stage.node.ask, ask, peer=f"peer{number}"))
    await trio.testing.wait_all_tasks_blocked()
    for peer in ("peer0", "one more"):
        with pytest.raises(Busy):
            await stage.node.ask(ask, peer=peer)
    gate.set()
    await trio.testing.wait_all_tasks_blocked()
    assert await stage.node.ask(ask, peer="peer0")
