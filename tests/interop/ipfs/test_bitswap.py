"""Bitswap with real IPFS programs, both ways, byte for byte; rates beside this machine's limit.

Needs `python scripts/ipfs_peers.py` once. Everything is on loopback, nobody is bootstrapped.
"""

import hashlib
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
import trio

from prsm.node.clock import TrioClock
from prsm.node.net.bitswap.door import Door, DoorRules
from prsm.node.net.bitswap.peer import Bitswap
from prsm.protocol.ids import PeerId
from prsm.storage.cid import Cid, Codec, hash_block, parse_cid
from prsm.storage.dag.dagpb import Sort, decode_file, decode_wrapped_leaf, sort_of, version_of
from prsm.storage.dag.unixfs import LEGACY, UNIXFS_V1_2025, V1_1M_174, Profile, import_chunks
from prsm.storage.errors import NotFound, SourceSlow
from tests.tools.bitswap_peers import DictShelf, lanes
from tests.tools.ipfs_peers import IpfsPeer, helia, js_ipfs, kubo, needs
from tests.tools.mplex_peer import mplex_peer

MIB = 1 << 20
SIZE = int(os.environ.get("PRSM_BITSWAP_MIB", "32")) * MIB + 12_345
SIZE_SMALL = 4 * MIB + 1
SHA256_FREE = 1105.0  # MB/s of one thread on the machine the bars were set on, when it is free
TURNS = 3
RATE_MIN = 25.0  # MB/s, both ways; the best of `TURNS`
JS_SERVED_MIN, JS_FETCHED_MIN = 25.0, 15.0
NO_BAR = 0.0

ASKED_AT_ONCE = 512
SURPLUS_SHARE = 0.03

Start = Callable[[Path], AbstractAsyncContextManager[IpfsPeer]]


@dataclass(frozen=True)
class Files:
    """How large files are and how a peer cuts them, a folder for them, and the bars in MB/s."""

    folder: Path
    size: int
    profile: Profile
    served_min: float
    fetched_min: float


@asynccontextmanager
async def helia_in(_folder: Path) -> AsyncIterator[IpfsPeer]:
    async with helia() as peer:
        yield peer


def shelve(data: bytes, shelf: DictShelf) -> Cid:
    """Put the blocks of a file on the shelf, as our store cuts it; returns the root."""
    chunk = UNIXFS_V1_2025.chunk
    chunks = [data[at : at + chunk] for at in range(0, len(data), chunk)]
    shelf.blocks |= {hashlib.sha256(each).digest(): each for each in chunks}

    def keep(cid: Cid, raw: bytes) -> None:
        shelf.blocks[cid.digest] = raw

    return import_chunks(chunks, profile=UNIXFS_V1_2025, keep=keep).root


@asynccontextmanager
async def door(shelf: DictShelf, rules: DoorRules) -> AsyncIterator[tuple[Door, trio.Event]]:
    """Run a door; the event is set when somebody is connected."""
    opened = Door(bytes(32), shelf, lanes=lanes(), clock=TrioClock(), rules=rules)
    up = trio.Event()
    opened.on_peer(lambda _event: up.set())
    async with trio.open_nursery() as nursery:
        await nursery.start(opened.run)
        yield opened, up
        nursery.cancel_scope.cancel()


async def fetch_dag(bitswap: Bitswap, peer: PeerId, root: Cid) -> bytes:
    """The bytes of a file, level by level, each level asked for in one go."""
    level: Sequence[Cid] = [root]
    parts: list[bytes | memoryview] = []
    while level:
        blocks: list[bytes] = []
        while len(blocks) < len(level):
            blocks += await bitswap.ask(peer, level[len(blocks) :][:ASKED_AT_ONCE])
        below: list[Cid] = []
        for cid, block in zip(level, blocks, strict=True):
            assert hashlib.sha256(block).digest() == cid.digest
            if cid.codec is Codec.RAW:
                parts.append(block)
            elif sort_of(block) is Sort.LEAF:
                parts.append(decode_wrapped_leaf(block))
            else:
                node = decode_file(block, version=version_of(block))
                below += [link.cid for link in node.links]
        assert not (parts and below)
        level = below
    return b"".join(parts)


@dataclass(frozen=True)
class Rate:
    """MB/s of one way, as a share of what sha256 alone does in the same run, and our CPU."""

    bytes_per_s: float
    share: float

    def holds(self, bar: float) -> bool:
        """Whether it is at or above a bar in MB/s, on this machine or by its share."""
        return self.bytes_per_s / 1e6 >= bar or self.share >= bar / SHA256_FREE


@contextmanager
def timed(what: str, rates: list[Rate], data: bytes) -> Iterator[None]:
    """Measure what the block does with all of the data, and print it."""
    began = time.perf_counter()
    hashlib.sha256(data).digest()
    limit = len(data) / (time.perf_counter() - began)
    began, cpu = time.perf_counter(), time.process_time()
    yield
    rate = len(data) / (time.perf_counter() - began)
    rates.append(Rate(rate, rate / limit))
    cpu = (time.process_time() - cpu) * 2**30 / len(data)
    text = f"{rate / 1e6:.0f} MB/s, {rate / limit:.3f} of sha256 ({limit / 1e6:.0f}), "
    print(f"{what}: {text}our CPU {cpu:.1f} s/GiB")  # noqa: T201 - a figure


async def serve_and_fetch(
    foreign: IpfsPeer, peer: PeerId, bitswap: Bitswap, shelf: DictShelf, files: Files
) -> None:
    """Both ways `TURNS` times with new bytes; the best of each is held to its bar.

    Args:
        foreign: connected to ours.
        peer: its id.
        bitswap: ours.
        shelf: what ours serves.
        files: how it cuts files, where to put them, and the bars.
    """
    served: list[Rate] = []
    fetched: list[Rate] = []
    for turn in range(TURNS):
        data = Random(turn).randbytes(files.size)
        root = shelve(data, shelf)
        with timed(f"{foreign.kind} <- ours", served, data):
            await foreign.cat(str(root), files.folder / "out")
        assert (files.folder / "out").read_bytes() == data
        shelf.blocks.clear()

        data = Random(100 + turn).randbytes(files.size)
        (files.folder / "in").write_bytes(data)
        theirs = parse_cid(await foreign.add(files.folder / "in", files.profile))
        with timed(f"ours <- {foreign.kind}", fetched, data):
            got = await fetch_dag(bitswap, peer, theirs)
        assert got == data
    with pytest.raises((NotFound, SourceSlow)):
        with trio.fail_after(30):
            await bitswap.ask(peer, [hash_block(b"nobody has this")])
    assert bitswap.counts()["bytes_dropped"] <= SURPLUS_SHARE * TURNS * files.size
    assert any(rate.holds(files.served_min) for rate in served)
    assert any(rate.holds(files.fetched_min) for rate in fetched)


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(kubo, marks=needs("kubo"), id="kubo"),
        pytest.param(helia_in, marks=needs("helia"), id="helia"),
    ],
)
@pytest.mark.parametrize("dialler", ["ours", "theirs"])
async def test_files_go_both_ways(start: Start, dialler: str, tmp_path: Path) -> None:
    shelf = DictShelf()
    async with start(tmp_path) as foreign:
        listen = ("/ip4/127.0.0.1/tcp/0",)
        peers = foreign.addresses[:1] if dialler == "ours" else ()
        async with door(shelf, DoorRules(listen=listen, peers=peers)) as (opened, up):
            if dialler == "theirs":
                await foreign.connect(opened.addresses[0])
            with trio.fail_after(20):
                await up.wait()
            [peer] = opened.peers()
            assert peer == foreign.peer
            size = SIZE if dialler == "ours" else SIZE_SMALL
            profile = LEGACY if foreign.kind == "kubo" else UNIXFS_V1_2025
            files = Files(tmp_path, size, profile, RATE_MIN, RATE_MIN)
            await serve_and_fetch(foreign, peer, opened.bitswap, shelf, files)


JS_IPFS = pytest.mark.parametrize("mark", [pytest.param("", marks=needs("js-ipfs"), id="js-ipfs")])


@JS_IPFS
async def test_files_go_both_ways_with_js_ipfs(mark: str, tmp_path: Path) -> None:
    """It speaks mplex only, which no door does: a stock host with mplex stands in for the door."""
    del mark
    await _with_js_ipfs(tmp_path, NO_BAR, NO_BAR)


@JS_IPFS
@pytest.mark.long
@pytest.mark.xfail(
    reason="7 to 10 MB/s served and 11 to 14 fetched; libp2p's own mplex, which stands in for the "
    "door, takes 8 to 10 CPU-s to read a GiB and 12 to 24 to write one",
    strict=False,
)
async def test_files_go_both_ways_with_js_ipfs_at_the_rate_asked(mark: str, tmp_path: Path) -> None:
    del mark
    await _with_js_ipfs(tmp_path, JS_SERVED_MIN, JS_FETCHED_MIN)


async def _with_js_ipfs(folder: Path, served_min: float, fetched_min: float) -> None:
    shelf = DictShelf()
    async with js_ipfs(folder) as foreign, mplex_peer(shelf, foreign.addresses) as bitswap:
        files = Files(folder, SIZE, V1_1M_174, served_min, fetched_min)
        await serve_and_fetch(foreign, PeerId(foreign.peer), bitswap, shelf, files)


@JS_IPFS
@pytest.mark.long
async def test_js_ipfs_beside_itself(mark: str, tmp_path: Path) -> None:
    """What two of them do over the same line: the limit of the rates with one of ours."""
    del mark
    rates: list[Rate] = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    async with js_ipfs(tmp_path / "one") as one, js_ipfs(tmp_path / "two") as two:
        await two.call("swarm/connect", {"arg": one.addresses[0]})
        for turn in range(TURNS):
            data = Random(turn).randbytes(SIZE)
            (tmp_path / "in").write_bytes(data)
            root = await one.add(tmp_path / "in", V1_1M_174)
            with timed("js-ipfs <- js-ipfs", rates, data):
                await two.cat(root, tmp_path / "out")
            assert (tmp_path / "out").read_bytes() == data
