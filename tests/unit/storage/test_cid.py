"""CID text and bytes: known pairs, strictness, and a round trip."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prsm.protocol.errors import WireError
from prsm.storage.cid import Cid, Codec, decode_cid, hash_block, parse_cid
from prsm.storage.errors import BadCid

EMPTY = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"
V0 = "QmQ3qK5DHp9ZejBwtX18h38FVujPyWS6HvP8Md2jWBVWez"


def test_hash_block_names_the_empty_block() -> None:
    assert str(hash_block(b"")) == EMPTY


@given(st.sampled_from(Codec), st.binary(min_size=32, max_size=32))
def test_cid_survives_text_and_bytes(codec: Codec, digest: bytes) -> None:
    cid = Cid(codec, digest)
    assert parse_cid(str(cid)) == cid
    assert decode_cid(cid.raw) == cid


def test_parse_cid_reads_version_0_and_base58_as_the_same_block() -> None:
    cid = parse_cid(V0)
    assert cid.codec is Codec.DAG_PB
    assert cid.text_v0() == V0
    assert str(cid).startswith("bafybei")
    known = "6e6ff7950a36187a801613426e858dce686cd7d7e3c0fc42ee0330072d245c95"
    assert parse_cid("zb2rhe5P4gXftAwvA4eXQ5HJwsER2owDyS9sKaQRRVQPn93bA") == Cid(
        Codec.RAW, bytes.fromhex(known)
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "b",
        "bafy",
        EMPTY.upper(),
        "B" + EMPTY[1:].upper(),
        EMPTY + "a",
        EMPTY[:-1],
        EMPTY[:-1] + "v",  # the two spare bits at the end are not zero
        "b" + "a" * 63,
        "a" * 65,
        V0[:-1] + "0",
        V0 + "1",
        "m" + EMPTY[1:],
        "bafkqaaa",  # identity
        "bafkrei\u00e9" + EMPTY[8:],
    ],
)
def test_parse_cid_refuses(text: str) -> None:
    with pytest.raises(BadCid) as caught:
        parse_cid(text)
    assert caught.value.reason == "invalid_params"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        bytes(36),
        b"\x01\x55\x00\x20" + bytes(32),  # identity
        b"\x01\x55\x12\x14" + bytes(32),
        b"\x01\x71\x12\x20" + bytes(32),  # dag-cbor
        b"\x02\x55\x12\x20" + bytes(32),
        b"\x01\x55\x12\x20" + bytes(33),
        b"\x81\x00\x55\x12\x20" + bytes(31),  # a varint that is not minimal
        b"\x12\x20" + bytes(33),
    ],
)
def test_decode_cid_refuses(raw: bytes) -> None:
    with pytest.raises(WireError):
        decode_cid(raw)


def test_text_v0_refuses_a_raw_leaf() -> None:
    with pytest.raises(BadCid, match="raw"):
        hash_block(b"").text_v0()
