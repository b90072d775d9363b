"""The trustless gateway as a source, against a scripted server: form, length, host and hash."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path

import pytest
import trio

from prsm.protocol.errors import LocalError
from prsm.storage.cid import hash_block
from prsm.storage.errors import (
    NotFound,
    SourceBroken,
    SourceCorrupt,
    SourceDown,
    SourceFailed,
    SourceSlow,
    SourceUnfit,
)
from prsm.storage.interfaces import TIER_GATEWAY, Source, traits_of
from prsm.storage.sources import gateway
from prsm.storage.sources.gateway import Gateway, open_gateways
from prsm.storage.sources.urls import checked_url
from prsm.storage.store.model_store import ModelStore
from tests.tools.ipfs_faults import FaultyDaemon, faulty_daemon
from tests.tools.source_battery import check_source
from tests.tools.source_faults import BLOCK, LEAVES, check_faults

DIGEST = LEAVES[0].digest
ROOT = hash_block(BLOCK)


@pytest.fixture
def daemon() -> Iterator[FaultyDaemon]:
    with faulty_daemon() as running:
        running.blocks[DIGEST] = BLOCK
        yield running


@asynccontextmanager
async def one(url: str) -> AsyncIterator[Gateway]:
    async with open_gateways([url]) as [found]:
        yield found


@pytest.mark.slow
async def test_gateway_is_a_source(tmp_path: Path) -> None:
    @asynccontextmanager
    async def serve(store: ModelStore) -> AsyncIterator[Source]:
        with faulty_daemon() as running:
            for file in await store.list():
                leaves = (await store.have(file.root)).leaves
                for block in await store.read_leaves(file.root, 0, leaves):
                    running.blocks[sha256(block).digest()] = block
                if leaves > 1:
                    running.blocks[file.root.digest] = await store.get_block(file.root.digest)
            async with one(running.url) as source:
                yield source

    await check_source(tmp_path, serve)


@pytest.mark.slow
async def test_every_fault_is_typed_and_the_deadline_kept(daemon: FaultyDaemon) -> None:
    async with one(daemon.url) as source:
        await check_faults(daemon, source)
        assert traits_of(source).tier == TIER_GATEWAY


async def test_raw_form_is_asked_for(daemon: FaultyDaemon) -> None:
    async with one(daemon.url) as source:
        assert await source.node(DIGEST) == BLOCK
    assert daemon.requests[0].startswith("/ipfs/bafybei")
    assert daemon.requests[0].endswith("?format=raw")


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("type", SourceUnfit),
        ("encoded", SourceUnfit),
        ("json", SourceUnfit),
        ("huge", SourceUnfit),  # js-ipfs: 200 with the whole file, as octets
        ("away", SourceFailed),
        ("loop", SourceFailed),
        ("busy", SourceSlow),
        ("late", SourceSlow),
        ("error", SourceFailed),
        ("wrong", SourceCorrupt),
        ("cut", SourceBroken),
    ],
)
async def test_wrong_answer_is_typed(
    daemon: FaultyDaemon, fault: str, error: type[Exception]
) -> None:
    with faulty_daemon() as other:
        other.blocks[DIGEST] = BLOCK
        daemon.away = other.url
        daemon.fault = fault
        async with one(daemon.url) as source:
            for call in (source.node, lambda _digest: source.fetch(ROOT, LEAVES[:1])):
                with pytest.raises(error) as caught:
                    await call(DIGEST)
                assert type(caught.value) is error
                if isinstance(caught.value, SourceSlow):
                    assert caught.value.retry_after_ms == (7000 if fault == "busy" else 0)
        assert other.requests == []


@pytest.mark.parametrize("is_announced", [False, True])
async def test_large_answer_of_the_right_type_is_cut_off(
    daemon: FaultyDaemon, *, is_announced: bool
) -> None:
    daemon.blocks[DIGEST] = bytes(9 << 20)
    daemon.fault = "" if is_announced else "trailer"
    async with one(daemon.url) as source:
        with pytest.raises(SourceBroken, match="over 2097152 bytes"):
            await source.node(DIGEST)


async def test_redirect_is_followed_within_the_configured_hosts(daemon: FaultyDaemon) -> None:
    with faulty_daemon() as other:
        other.blocks[DIGEST] = BLOCK
        daemon.away, daemon.fault = other.url, "redirect"
        async with open_gateways([daemon.url, other.url]) as [first, _]:
            assert await first.node(DIGEST) == BLOCK
            daemon.fault = "away"
            assert await first.node(DIGEST) == BLOCK
        assert len(other.requests) == 1


async def test_blocks_before_a_missing_one_are_a_prefix(daemon: FaultyDaemon) -> None:
    async with one(daemon.url) as source:
        assert list(await source.fetch(ROOT, LEAVES)) == [BLOCK]
        with pytest.raises(NotFound):
            await source.fetch(ROOT, LEAVES[::-1])
        assert await source.have(ROOT) is None


async def test_nobody_there_is_down_and_silence_slow(
    daemon: FaultyDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with one("http://127.0.0.1:1") as source:
        with pytest.raises(SourceDown):
            await source.node(DIGEST)
    monkeypatch.setattr(gateway, "SOCKET_S", 0.1)
    daemon.fault = "hang"
    async with one(daemon.url) as source:
        with pytest.raises(SourceSlow):
            await source.node(DIGEST)
    daemon.release.set()


async def test_environment_names_no_proxy(
    daemon: FaultyDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    async with one(daemon.url) as source:
        with trio.fail_after(5):
            assert await source.node(DIGEST) == BLOCK


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://127.0.0.1",
        "http://",
        "http://u:secret@127.0.0.1",
        "http://127.0.0.1/ipfs",
        "http://127.0.0.1?secret",
        "http://127.0.0.1:99999",
        "http://127.0.0.1#secret",
    ],
)
def test_url_is_checked_and_not_repeated(url: str) -> None:
    with pytest.raises(LocalError) as caught:
        checked_url(url)
    assert "secret" not in str(caught.value)
