"""Bitswap messages: as libp2p's generated classes both ways, bounded for who writes more."""

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from libp2p.bitswap.pb.bitswap_pb2 import Message as Generated

from prsm.node.net.bitswap import wire
from prsm.protocol.errors import WireError
from prsm.storage.cid import Cid, Codec, hash_block

V0 = b"\x12\x20" + bytes(range(32))
V1 = Cid(Codec.RAW, bytes(range(32))).raw
cids = st.one_of(
    st.builds(Cid, st.sampled_from(Codec), st.binary(min_size=32, max_size=32)).map(
        lambda cid: cid.raw
    ),
    st.binary(max_size=wire.CID_BYTES_MAX),
)


def unframed(raw: bytes) -> bytes:
    size, at = wire.read_varint(raw, 0)
    assert len(raw) == at + size
    return raw[at:]


@settings(max_examples=40)
@given(
    st.lists(st.tuples(cids, st.integers(-5, 2**31 - 1), st.booleans(), st.booleans())),
    st.booleans(),
    st.lists(st.tuples(st.binary(max_size=6), st.binary(max_size=300))),
    st.lists(st.tuples(cids, st.booleans())),
)
def test_what_generated_classes_write_is_read(
    entries: list[tuple[bytes, int, bool, bool]],
    is_full: bool,
    blocks: list[tuple[bytes, bytes]],
    presences: list[tuple[bytes, bool]],
) -> None:
    """The generated classes are the dumb twin of the reader."""
    written = Generated()
    written.wantlist.full = is_full
    for cid, priority, is_cancel, is_have in entries:
        written.wantlist.entries.add(
            block=cid, priority=priority, cancel=is_cancel, wantType=int(is_have), sendDontHave=True
        )
    for prefix, data in blocks:
        written.payload.add(prefix=prefix, data=data)
    for cid, is_here in presences:
        written.blockPresences.add(cid=cid, type=Generated.Have if is_here else Generated.DontHave)
    written.blocks.append(b"of version 1.0.0")
    written.pendingBytes = 7
    read = wire.decode_message(written.SerializeToString())
    assert [(each.cid, each.is_cancel, each.is_have) for each in read.entries] == [
        (cid, is_cancel, is_have) for cid, _, is_cancel, is_have in entries
    ]
    assert all(each.send_dont_have for each in read.entries)
    assert read.is_full == is_full
    assert [(bytes(prefix), bytes(data)) for prefix, data in read.blocks] == blocks
    assert read.presences == [
        (cid, wire.Presence.HAVE if is_here else wire.Presence.DONT_HAVE)
        for cid, is_here in presences
    ]
    assert read.bare_blocks == 1


@pytest.mark.parametrize("cid", [V0, V1])
def test_what_is_written_is_read_by_generated_classes(cid: bytes) -> None:
    head, data = wire.encode_block(cid, b"block")
    block = Generated.FromString(unframed(head + data)).payload[0]
    assert (block.prefix, block.data) == (wire.prefix_of(cid), b"block")
    assert wire.is_sha256(block.prefix)
    told = [(cid, wire.Presence.DONT_HAVE), (cid, wire.Presence.HAVE)]
    presences = Generated.FromString(unframed(wire.encode_presences(told))).blockPresences
    assert [(each.cid, wire.Presence(int(each.type))) for each in presences] == told


@pytest.mark.parametrize("is_have", [False, True])
@pytest.mark.parametrize("is_cancel", [False, True])
def test_wants_are_read_by_generated_classes(is_have: bool, is_cancel: bool) -> None:
    wanted = [hash_block(b"a"), hash_block(b"b", Codec.DAG_PB)]
    raw = wire.encode_wants(wanted, cancel=is_cancel, want_have=is_have)
    wantlist = Generated.FromString(unframed(raw)).wantlist
    assert [entry.block for entry in wantlist.entries] == [cid.raw for cid in wanted]
    assert not wantlist.full
    for entry in wantlist.entries:
        assert (entry.cancel, entry.sendDontHave) == (is_cancel, not is_cancel)
        assert (entry.wantType == 1) == (is_have and not is_cancel)


def test_digest_is_read_of_either_version_only() -> None:
    assert wire.digest_of(V0) == wire.digest_of(V1) == bytes(range(32))
    identity = b"\x01\x55\x00\x04four"
    blake = b"\x01\x55\xa0\xe4\x02\x20" + bytes(32)
    for other in (b"", identity, blake, V1[:-1], V1 + b"\0\0", b"\x02" + V1[1:]):
        assert wire.digest_of(other) is None


def test_a_million_entries_are_refused_in_little_memory() -> None:
    """The generated classes made 55 MB of these 2 MB."""
    raw = b"\x0a" + wire._sized(b"\x0a\x00" * 1_000_000)[0:]
    tracemalloc.start()
    with pytest.raises(WireError, match="more than 4096"):
        wire.decode_message(raw)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * 2**20


@pytest.mark.parametrize(
    "raw",
    [
        b"\x0a\x05abc",  # torn
        b"\x0a",
        b"\x80" * 11,
        b"\x0b",  # a group
        b"\x28\x01" * 20_000,  # pending bytes, told again and again
        b"\x1a\x00" * 5_000,
        b"\x0a" + wire._sized(b"\x0a" + wire._sized(b"\x18\x01" * 100)),  # one entry, 100 fields
        b"\x0a" + wire._sized(b"\x0a" + wire._sized(b"\x0a" + wire._sized(bytes(200)))),
        b"\x09\x00",
    ],
)
def test_what_no_honest_peer_writes_is_refused(raw: bytes) -> None:
    with pytest.raises(WireError):
        wire.decode_message(raw)


@given(st.binary(max_size=200))
def test_junk_raises_nothing_else(raw: bytes) -> None:
    try:
        wire.decode_message(raw)
    except WireError:
        return
