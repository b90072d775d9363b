"""The IPFS daemon as a source, against a scripted server: every way it fails has its own error."""

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path

import pytest
import trio

from prsm.protocol.errors import LocalError, PrsmError
from prsm.storage.cid import hash_block
from prsm.storage.dag.unixfs import UNIXFS_V1_2025, import_chunks
from prsm.storage.errors import (
    NotFound,
    SourceBroken,
    SourceCorrupt,
    SourceDown,
    SourceFailed,
    SourceSlow,
)
from prsm.storage.fetch.exchange import Exchange
from prsm.storage.interfaces import TIER_DAEMON, Leaf, Source, traits_of
from prsm.storage.sources import ipfs_rpc
from prsm.storage.sources.ipfs_rpc import IpfsRpc
from prsm.storage.store.model_store import ModelStore
from tests.tools.ipfs_faults import FaultyDaemon, faulty_daemon
from tests.tools.source_battery import check_source
from tests.tools.source_faults import check_faults

pytestmark = pytest.mark.filterwarnings("ignore:The 'strict' parameter:FutureWarning")

MIB = 1 << 20
BLOCK = b"block" * 1000
DIGEST = sha256(BLOCK).digest()


@pytest.fixture
def daemon() -> Iterator[FaultyDaemon]:
    with faulty_daemon() as running:
        running.blocks[DIGEST] = BLOCK
        yield running


@pytest.mark.slow
async def test_ipfs_rpc_is_a_source(tmp_path: Path) -> None:
    @asynccontextmanager
    async def serve(store: ModelStore) -> AsyncIterator[Source]:
        with faulty_daemon() as running:
            for file in await store.list():
                leaves = (await store.have(file.root)).leaves
                for block in await store.read_leaves(file.root, 0, leaves):
                    running.blocks[sha256(block).digest()] = block
                if leaves > 1:
                    running.blocks[file.root.digest] = await store.get_block(file.root.digest)
            yield IpfsRpc(running.url)

    await check_source(tmp_path, serve)


@pytest.mark.slow
async def test_every_fault_is_typed_and_the_deadline_kept(daemon: FaultyDaemon) -> None:
    source = IpfsRpc(daemon.url)
    await check_faults(daemon, source)
    assert traits_of(source).tier == TIER_DAEMON


async def test_check_says_who_is_there_and_warns(daemon: FaultyDaemon) -> None:
    found = await IpfsRpc(daemon.url).check()
    assert (found.version, found.peer_id, found.warnings) == ("0.18.1", "12D3KooW", ())
    daemon.version = "0.40.0"
    assert "0.40.0, tested are 0.18.1" in (await IpfsRpc(daemon.url).check()).warnings[0]


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("cut", SourceBroken),
        ("huge", SourceBroken),
        ("error", SourceFailed),
        ("html", SourceFailed),
        ("hang", SourceSlow),
    ],
)
async def test_failure_of_a_block_is_typed(
    daemon: FaultyDaemon, fault: str, error: type[PrsmError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ipfs_rpc, "SOCKET_SECONDS", 0.1)
    source = IpfsRpc(daemon.url)
    daemon.fault = fault
    with pytest.raises(error) as caught:
        await source.node(DIGEST)
    assert type(caught.value) is error
    assert daemon.url in caught.value.what
    daemon.release.set()
    daemon.fault = ""
    assert await source.node(DIGEST) == BLOCK


@pytest.mark.parametrize("fault", ["json", "cut", "html"])
async def test_daemon_that_speaks_nonsense_is_broken_or_failed(
    daemon: FaultyDaemon, fault: str
) -> None:
    daemon.fault = fault
    with pytest.raises(SourceFailed):
        await IpfsRpc(daemon.url).check()


async def test_nobody_there_is_down() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        for call in (IpfsRpc(url).check(), IpfsRpc(url).node(DIGEST)):
            with pytest.raises(SourceDown):
                await call


async def test_missing_block_is_not_found_and_ends_a_run(daemon: FaultyDaemon) -> None:
    source = IpfsRpc(daemon.url)
    missing = Leaf(1, bytes(32), 5)
    with pytest.raises(NotFound):
        await source.node(bytes(32))
    root = hash_block(b"")
    assert await source.fetch(root, (Leaf(0, DIGEST, 5000), missing)) == [BLOCK]
    with pytest.raises(NotFound):
        await source.fetch(root, (missing,))
    assert await source.have(root) is None


async def test_cancelled_call_comes_back_at_once(daemon: FaultyDaemon) -> None:
    daemon.fault = "hang"
    source = IpfsRpc(daemon.url)
    with trio.fail_after(2), trio.move_on_after(0.05) as scope:
        await source.node(DIGEST)
    assert scope.cancelled_caught
    daemon.release.set()


async def test_hung_daemon_takes_four_threads_at_most(daemon: FaultyDaemon) -> None:
    daemon.fault = "hang"
    source = IpfsRpc(daemon.url)
    with trio.move_on_after(0.2):
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(source.node, DIGEST)
    assert len(daemon.requests) <= ipfs_rpc.CALLS_MAX
    daemon.release.set()


async def test_wrong_bytes_of_a_daemon_never_reach_the_disk(
    daemon: FaultyDaemon, tmp_path: Path
) -> None:
    store = await ModelStore.open(tmp_path / "store", quota=1 << 20)
    daemon.fault = "wrong"
    root = hash_block(BLOCK)
    with pytest.raises(SourceCorrupt):
        await Exchange(store).fetch(root, len(BLOCK), [IpfsRpc(daemon.url)])
    assert (tmp_path / "store" / "partial" / str(root)).read_bytes() == bytes(len(BLOCK))
    daemon.fault = ""
    await Exchange(store).fetch(root, len(BLOCK), [IpfsRpc(daemon.url)])
    assert (await store.path(root)).read_bytes() == BLOCK
    await store.close()


async def test_add_file_compares_the_cid(daemon: FaultyDaemon, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(BLOCK)
    source = IpfsRpc(daemon.url)
    await source.add_file(path, root=hash_block(BLOCK))
    sent = daemon.requests[-1]
    for keyword in ("cid-version=1", "raw-leaves=True", "chunker=size-1048576", "pin=False"):
        assert keyword.lower() in sent.lower()
    with pytest.raises(SourceCorrupt, match="made bafkrei"):
        await source.add_file(path, root=hash_block(b"other"))
    for fault in ("json", "cut", "error"):
        daemon.fault = fault
        with pytest.raises(SourceFailed):
            await source.add_file(path, root=hash_block(BLOCK))


@pytest.mark.slow
async def test_large_file_is_imported_as_our_own_dag(daemon: FaultyDaemon, tmp_path: Path) -> None:
    """Above 174 leaves the daemon's own width would give another root."""
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(174 * MIB + 1)
    chunk = bytes(MIB)
    dag = import_chunks(
        [*[chunk] * 174, b"\0"], profile=UNIXFS_V1_2025, keep=lambda _cid, _raw: None
    )
    source = IpfsRpc(daemon.url)
    await source.add_file(path, root=dag.root)
    assert "pin-roots=false" in daemon.requests[-2]
    assert set(daemon.blocks) >= {dag.root.digest, sha256(chunk).digest(), sha256(b"\0").digest()}
    with pytest.raises(SourceFailed, match="not bafkrei"):
        await source.add_file(path, root=hash_block(b"another file"))
    daemon.named = str(hash_block(b"another"))
    with pytest.raises(SourceCorrupt):
        await source.add_file(path, root=dag.root)
    with pytest.raises(NotFound):
        await source.add_file(tmp_path / "none", root=hash_block(b""))


async def test_cancelled_upload_ends_its_thread(
    daemon: FaultyDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ipfs_rpc, "ADD_LEAVES_MAX", 0)
    daemon.fault = "hang"
    (tmp_path / "file").write_bytes(BLOCK)
    source = IpfsRpc(daemon.url)
    with trio.fail_after(5), trio.move_on_after(0.1) as scope:
        await source.add_file(tmp_path / "file", root=hash_block(BLOCK))
    assert scope.cancelled_caught


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:5001",
        "ftp://127.0.0.1",
        "http://",
        "http://u:secret@127.0.0.1:5001",
        "http://127.0.0.1:5001/api",
        "http://127.0.0.1:5001?x=secret",
        "http://127.0.0.1:99999",
    ],
)
def test_url_is_checked_and_not_repeated(url: str) -> None:
    with pytest.raises(LocalError) as caught:
        IpfsRpc(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://127.0.0.1:5001", "/ip4/127.0.0.1/tcp/5001/http"),
        ("http://[::1]:5001/", "/ip6/::1/tcp/5001/http"),
        ("https://localhost", "/dns/localhost/tcp/5001/https"),
    ],
)
def test_url_becomes_an_address(url: str, address: str) -> None:
    assert ipfs_rpc._address(url) == (address, True)


def test_daemon_elsewhere_is_known_as_such() -> None:
    assert ipfs_rpc._address("http://192.0.2.1:5001") == ("/ip4/192.0.2.1/tcp/5001/http", False)
