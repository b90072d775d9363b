"""Sealed files: their recipients read them, nobody else does, and no changed byte passes."""

import os
import stat
import tracemalloc
from pathlib import Path

import pytest
from nacl.bindings import crypto_sign_seed_keypair

from prsm.protocol.errors import LocalError
from prsm.storage import envelope as module
from prsm.storage.envelope import (
    RECIPIENTS_MAX,
    Ring,
    add_recipient,
    check_file,
    decode_ring,
    encode_ring,
    key_id,
    make_ring,
    open_file,
    open_ring,
    remove_recipient,
    seal_file,
)
from prsm.storage.errors import BadEnvelope, Conflict, NotFound, NotRecipient

CHUNK = 64
SEEDS = [bytes([n]) * 32 for n in range(1, 4)]
KEYS = [crypto_sign_seed_keypair(seed)[0] for seed in SEEDS]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many chunks in a small file."""
    monkeypatch.setattr(module, "CHUNK_BYTES", CHUNK)


def sealed(folder: Path, plain: bytes, key: bytes) -> Path:
    (folder / "plain").write_bytes(plain)
    seal_file(folder / "plain", folder / "sealed", key)
    return folder / "sealed"


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("size", [0, 1, *range(CHUNK - 2, CHUNK + 3), 2 * CHUNK, 5 * CHUNK + 7])
def test_each_recipient_reads_the_file(tmp_path: Path, size: int) -> None:
    ring, key = make_ring(KEYS[:2])
    plain = os.urandom(size)
    path = sealed(tmp_path, plain, key)
    stored = decode_ring(encode_ring(ring))
    for number, seed in enumerate(SEEDS[:2]):
        opened = open_ring(stored, seed)
        target = tmp_path / f"opened {number}"
        assert open_file(path, target, opened) == size
        assert check_file(path, opened) == size
        assert target.read_bytes() == plain
        assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_a_stranger_is_refused_with_a_typed_error() -> None:
    ring, _ = make_ring(KEYS[:2])
    with pytest.raises(NotRecipient, match="sealed for 2 keys"):
        open_ring(ring, SEEDS[2])


def test_recipients_come_and_go_and_the_file_stays(tmp_path: Path) -> None:
    ring, key = make_ring(KEYS[:1])
    path = sealed(tmp_path, b"weights", key)
    before = path.read_bytes()
    more = add_recipient(ring, open_ring(ring, SEEDS[0]), KEYS[2])
    assert add_recipient(more, key, KEYS[2]).key_ids == more.key_ids
    assert check_file(path, open_ring(more, SEEDS[2])) == len(b"weights")
    fewer = remove_recipient(more, key, KEYS[0])
    assert fewer.key_ids == (key_id(KEYS[2]),)
    with pytest.raises(NotRecipient):
        open_ring(fewer, SEEDS[0])
    with pytest.raises(NotRecipient):
        remove_recipient(fewer, key, KEYS[0])
    with pytest.raises(LocalError, match="0 recipients"):
        remove_recipient(fewer, key, KEYS[2])
    assert path.read_bytes() == before


def test_every_changed_byte_of_a_file_is_refused(tmp_path: Path) -> None:
    """Goal: no region is believed. Method: flip a bit of each byte, head and tags included."""
    _, key = make_ring(KEYS[:1])
    path = sealed(tmp_path, bytes(range(150)), key)
    raw = path.read_bytes()
    for place in range(len(raw)):
        path.write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
        with pytest.raises(BadEnvelope):
            open_file(path, tmp_path / "opened", key)
        assert not (tmp_path / "opened").exists(), place


@pytest.mark.usefixtures("small")
def test_chunks_cut_off_moved_or_repeated_are_refused(tmp_path: Path) -> None:
    _, key = make_ring(KEYS[:1])
    path = sealed(tmp_path, bytes(4 * CHUNK), key)
    raw = path.read_bytes()
    whole = CHUNK + 16
    head, body = raw[: len(raw) - 4 * whole], raw[len(raw) - 4 * whole :]
    parts = [body[at : at + whole] for at in range(0, len(body), whole)]
    others = [parts[:3], parts[1:], [parts[1], parts[0], *parts[2:]], [*parts, parts[3]], []]
    for each in [*others, [*parts[:3], parts[3][:-1]]]:
        path.write_bytes(head + b"".join(each))
        with pytest.raises(BadEnvelope):
            check_file(path, key)
    path.write_bytes(head[:-1])
    with pytest.raises(BadEnvelope, match="head does not hold"):
        check_file(path, key)


def test_every_changed_byte_of_a_ring_is_refused() -> None:
    ring, key = make_ring(KEYS[:2])
    raw = encode_ring(ring)
    for place in range(len(raw)):
        forged = raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]
        with pytest.raises((BadEnvelope, NotRecipient)):
            open_ring(decode_ring(forged), SEEDS[0])
    short = Ring(1, ring.wrapped[:1], ring.tag)
    with pytest.raises(BadEnvelope):
        add_recipient(short, key, KEYS[2])
    backward = Ring(1, ring.wrapped[::-1], ring.tag)
    with pytest.raises(BadEnvelope, match="order"):
        decode_ring(encode_ring(backward))


def test_another_key_and_a_plain_file_are_told_apart(tmp_path: Path) -> None:
    _, key = make_ring(KEYS[:1])
    path = sealed(tmp_path, b"weights", key)
    with pytest.raises(BadEnvelope, match="another key"):
        check_file(path, bytes(32))
    with pytest.raises(BadEnvelope, match="no sealed file"):
        check_file(tmp_path / "plain", key)
    with pytest.raises(NotFound):
        check_file(tmp_path / "absent", key)
    with pytest.raises(Conflict):
        open_file(path, tmp_path / "plain", key)


def test_two_files_of_one_ring_share_no_cipher_text(tmp_path: Path) -> None:
    _, key = make_ring(KEYS[:1])
    seen = set()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        seen.add(sealed(tmp_path / name, bytes(500), key).read_bytes()[-516:])
    assert len(seen) == 2


@pytest.mark.parametrize("bad", [b"", bytes(32), b"\xff" * 32, b"short"])
def test_what_is_no_key_gets_nothing_sealed(bad: bytes) -> None:
    with pytest.raises(LocalError, match="no Ed25519 key"):
        make_ring([KEYS[0], bad])


def test_the_number_of_recipients_is_bounded() -> None:
    with pytest.raises(LocalError, match="0 recipients"):
        make_ring([])
    assert RECIPIENTS_MAX * 110 + 64 < module.RING_BYTES_MAX


def test_memory_stays_bounded_while_a_large_file_is_sealed_and_opened(tmp_path: Path) -> None:
    _, key = make_ring(KEYS[:1])
    with (tmp_path / "plain").open("wb") as file:
        file.truncate(24 * 2**20)
    tracemalloc.start()
    try:
        seal_file(tmp_path / "plain", tmp_path / "sealed", key)
        assert open_file(tmp_path / "sealed", tmp_path / "opened", key) == 24 * 2**20
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * 2**20, peak
