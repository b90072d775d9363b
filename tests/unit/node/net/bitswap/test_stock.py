"""The faults of libp2p 0.8.1's own bitswap that ours was written for; red when a release mends one.

Each is the twin of a test in test_peer.py; see docs/adr/0013.
"""

import logging
from collections.abc import Iterator
from random import Random
from typing import cast

import pytest
from libp2p.abc import IHost, INetStream
from libp2p.bitswap import config
from libp2p.bitswap.block_store import MemoryBlockStore
from libp2p.bitswap.cid import parse_cid
from libp2p.bitswap.client import BitswapClient
from libp2p.bitswap.pb.bitswap_pb2 import Message
from libp2p.peer.id import ID

from prsm.protocol.limits import LEAF_BYTES
from prsm.storage.cid import hash_block

PEER = ID(b"\x12\x20" + bytes(32))


class Recorded:
    """A stream that keeps what is written, and reads what it was given, byte for byte."""

    def __init__(self, incoming: bytes = b"") -> None:
        self.written = b""
        self.incoming = incoming
        self.reads = 0

    async def write(self, data: bytes) -> None:
        self.written += data

    async def read(self, count: int) -> bytes:
        self.reads += 1
        taken, self.incoming = self.incoming[:count], self.incoming[count:]
        return taken

    def get_protocol(self) -> str:
        return "/ipfs/bitswap/1.2.0"


@pytest.fixture(autouse=True)
def speaking() -> Iterator[None]:
    """Let its logger speak, as it does without our fences."""
    logger = logging.getLogger("libp2p")
    before = logger.level
    logger.setLevel(logging.NOTSET)
    logging.getLogger("libp2p.bitswap").setLevel(logging.INFO)
    yield
    logger.setLevel(before)
    logging.getLogger("libp2p.bitswap").setLevel(logging.NOTSET)


def stock() -> tuple[BitswapClient, MemoryBlockStore]:
    store = MemoryBlockStore()
    return BitswapClient(cast("IHost", object()), store), store


async def process(client: BitswapClient, message: Message) -> Recorded:
    stream = Recorded()
    await client._process_message(message, PEER, cast("INetStream", stream))
    return stream


async def test_stock_stores_blocks_nobody_asked_for() -> None:
    client, store = stock()
    message = Message()
    for number in range(20):
        message.payload.add(prefix=b"\x01\x55\x12\x20", data=Random(number).randbytes(100))
    await process(client, message)
    assert store.size() == 20


async def test_stock_answers_on_the_stream_of_the_asker_and_sends_a_block_to_a_want_have() -> None:
    client, store = stock()
    cid = hash_block(b"block")
    await store.put_block(parse_cid(cid.raw), b"block")
    message = Message()
    message.wantlist.entries.add(block=cid.raw, wantType=Message.Wantlist.Have)
    assert b"block" in (await process(client, message)).written


async def test_stock_keeps_a_wantlist_of_any_length() -> None:
    client, _ = stock()
    message = Message()
    for number in range(10_000):
        message.wantlist.entries.add(block=hash_block(number.to_bytes(4, "big")).raw)
    await process(client, message)
    assert len(client._peer_wantlists[PEER]) == 10_000


async def test_stock_keeps_presences_nobody_asked_for() -> None:
    client, _ = stock()
    message = Message()
    for number in range(1_000):
        cid = hash_block(number.to_bytes(4, "big")).raw
        message.blockPresences.add(cid=cid, type=Message.Have)
    await process(client, message)
    assert len(client.presence_manager.get_expected_for_peer(PEER)) == 1_000


async def test_stock_logs_the_bytes_of_each_bare_block(caplog: pytest.LogCaptureFixture) -> None:
    client, _ = stock()
    message = Message(blocks=[b"secret bytes"])
    with caplog.at_level(logging.INFO, "libp2p.bitswap"):
        await process(client, message)
    assert b"secret bytes".hex() in caplog.text


async def test_stock_reads_a_length_of_ten_bytes_one_by_one() -> None:
    client, _ = stock()
    stream = Recorded(b"\x80" * 9 + b"\x00" + b"rest")
    await client._read_message(cast("INetStream", stream))
    assert stream.reads >= 10


def test_stock_takes_no_block_of_a_leaf() -> None:
    assert config.MAX_BLOCK_SIZE < LEAF_BYTES


def test_stock_offers_version_1_0_0() -> None:
    assert "/ipfs/bitswap/1.0.0" in stock()[0].supported_protocols
