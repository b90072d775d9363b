"""Copies that are hashed as they are made: through the page cache and past it, any size."""

import hashlib
import os
import threading
from functools import partial
from pathlib import Path
from random import Random

import pytest
import trio

from prsm.storage.dag import hashing
from prsm.storage.dag.unixfs import UNIXFS_V1_2025, import_chunks
from prsm.storage.errors import Full

MIB = 1 << 20


async def copied(folder: Path, data: bytes, size: int) -> tuple[hashing.Hashed, bytes]:
    (folder / "old").write_bytes(data)
    old = os.open(folder / "old", os.O_RDONLY)
    new = os.open(folder / "new", os.O_RDWR | os.O_CREAT)
    os.posix_fallocate(new, 0, size + 1)  # more than is needed is cut off
    try:
        found = await trio.to_thread.run_sync(partial(hashing.take_in, old, new, size=size))
    finally:
        os.close(old)
        os.close(new)
    return found, (folder / "new").read_bytes()


@pytest.mark.parametrize("direct", [0, 1 << 40], ids=["past the cache", "through it"])
@pytest.mark.parametrize("size", [0, 1, 4097, MIB, 5 * MIB + 7, 8 * MIB, 8 * MIB + 1])
async def test_copy_is_what_was_hashed(
    size: int, direct: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashing, "_DIRECT_BYTES_MIN", direct)
    data = Random(size).randbytes(size)
    found, copy = await copied(tmp_path, data, size)
    assert copy == data
    assert found.sha256 == hashlib.sha256(data).digest()
    chunks = [data[first : first + MIB] for first in range(0, size, MIB)]
    nodes: list[bytes] = []
    dag = import_chunks(chunks, profile=UNIXFS_V1_2025, keep=lambda _cid, raw: nodes.append(raw))
    assert (found.dag, list(found.nodes)) == (dag, nodes)
    assert list(found.leaves) == [hashlib.sha256(chunk).digest() for chunk in chunks or [b""]]


async def test_file_system_that_refuses_at_the_first_write_gets_it_through_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let a write past the cache end with EINVAL, as some file systems do only then."""
    monkeypatch.setattr(hashing, "_DIRECT_BYTES_MIN", 0)
    real = os.pwrite
    refused: list[int] = []

    def pwrite(descriptor: int, data: memoryview, offset: int) -> int:
        if not refused:
            refused.append(offset)
            raise OSError(22, "Invalid argument")
        return real(descriptor, data[: 3 * MIB], offset)  # and in pieces

    monkeypatch.setattr(os, "pwrite", pwrite)
    data = Random(1).randbytes(5 * MIB + 1)
    assert (await copied(tmp_path, data, len(data)))[1] == data
    assert refused == [0]


async def test_two_writes_may_be_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both were begun past the cache; whoever comes second finds that switched off already."""
    monkeypatch.setattr(hashing, "_DIRECT_BYTES_MIN", 0)
    real, switch = os.pwrite, hashing._Writer._set_direct
    both, is_off = threading.Barrier(2), threading.Event()
    refused: list[int] = []

    def set_direct(writer: hashing._Writer, flag: int) -> bool:
        is_direct = switch(writer, flag)
        if not flag:
            writer._is_direct = is_direct
            is_off.set()
        return is_direct

    def pwrite(descriptor: int, data: memoryview, offset: int) -> int:
        if len(refused) < 2:
            refused.append(offset)
            both.wait(60)
            if offset:
                assert is_off.wait(60)
            raise OSError(22, "Invalid argument")
        return real(descriptor, data, offset)

    monkeypatch.setattr(hashing._Writer, "_set_direct", set_direct)
    monkeypatch.setattr(os, "pwrite", pwrite)
    data = Random(2).randbytes(MIB) * 17
    assert (await copied(tmp_path, data, len(data)))[1] == data
    assert sorted(refused) == [0, 8 * MIB]


async def test_disk_that_refuses_a_write_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pwrite(*_args: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "pwrite", pwrite)
    with pytest.raises(OSError, match="Input/output"):
        await copied(tmp_path, b"x", 1)


async def test_file_that_grew_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Full, match="grown beyond the 4 bytes"):
        await copied(tmp_path, b"12345", 4)
