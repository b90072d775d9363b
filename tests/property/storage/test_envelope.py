"""Sealed files of any size, for any recipients, cut or changed anywhere."""

from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.bindings import crypto_sign_seed_keypair

from prsm.storage import envelope as module
from prsm.storage.envelope import (
    add_recipient,
    check_file,
    make_ring,
    open_file,
    open_ring,
    remove_recipient,
    seal_file,
)
from prsm.storage.errors import BadEnvelope, NotRecipient

SEEDS = st.integers(0, 5)


def seed(number: int) -> bytes:
    return bytes([number + 1]) * 32


def public(number: int) -> bytes:
    return crypto_sign_seed_keypair(seed(number))[0]


@settings(max_examples=40, deadline=None)
@given(plain=st.binary(max_size=700), chunk=st.integers(1, 300), data=st.data())
def test_only_the_whole_file_opens(plain: bytes, chunk: int, data: st.DataObject) -> None:
    with TemporaryDirectory() as name, mock.patch.object(module, "CHUNK_BYTES", chunk):
        folder = Path(name)
        (folder / "plain").write_bytes(plain)
        _, key = make_ring([public(0)])
        seal_file(folder / "plain", folder / "sealed", key)
        open_file(folder / "sealed", folder / "opened", key)
        assert (folder / "opened").read_bytes() == plain
        raw = bytearray((folder / "sealed").read_bytes())
        place = data.draw(st.integers(0, len(raw) - 1))
        if data.draw(st.booleans()):
            raw[place] ^= data.draw(st.integers(1, 255))
        else:
            del raw[place:]
        (folder / "sealed").write_bytes(raw)
        with pytest.raises(BadEnvelope):
            check_file(folder / "sealed", key)


@settings(max_examples=40, deadline=None)
@given(first=st.sets(SEEDS, min_size=1), steps=st.lists(st.tuples(st.booleans(), SEEDS)))
def test_a_ring_opens_for_exactly_its_recipients(
    first: set[int], steps: list[tuple[bool, int]]
) -> None:
    """Goal: coming and going leaves the right ones. Method: the ring beside a set."""
    ring, key = make_ring([public(one) for one in first])
    wanted = set(first)
    for comes, one in steps:
        if comes:
            ring = add_recipient(ring, key, public(one))
            wanted.add(one)
        elif one in wanted and len(wanted) > 1:
            ring = remove_recipient(ring, key, public(one))
            wanted.remove(one)
    for one in range(6):
        if one in wanted:
            assert open_ring(ring, seed(one)) == key
        else:
            with pytest.raises(NotRecipient):
                open_ring(ring, seed(one))
