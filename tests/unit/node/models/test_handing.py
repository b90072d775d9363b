"""A file handed to its caller: whole or not at all, and every refusal of the disk has a type."""

import contextlib
import errno
import os
import shutil
from pathlib import Path
from typing import BinaryIO

import pytest

from prsm.node.models import forms
from prsm.storage import wholefile
from prsm.storage.disk import PosixDisk
from prsm.storage.errors import Conflict, Full, NotFound, StoreUnavailable


def test_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int) -> None:
        del fd
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "made").write_bytes(b"model")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Full, match="out: No space left"):
        forms._hand_over(tmp_path / "made", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_nothing_is_written_over_or_through_a_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "made").write_bytes(b"model")
    (tmp_path / "theirs").write_bytes(b"theirs")
    (tmp_path / "out").symlink_to(tmp_path / "nowhere")
    with pytest.raises(Conflict, match="exists"):
        forms._check_out(tmp_path / "out")
    with pytest.raises(Conflict, match="exists"):
        forms._hand_over(tmp_path / "made", tmp_path / "out")
    monkeypatch.setattr(PosixDisk, "nonce", lambda _self: 7)
    (tmp_path / f".{7:016x}.part").symlink_to(tmp_path / "theirs")
    with pytest.raises(Conflict, match="exists"):
        forms._hand_over(tmp_path / "made", tmp_path / "new")
    assert (tmp_path / "theirs").read_bytes() == b"theirs"


def test_longest_name_is_taken(tmp_path: Path) -> None:
    (tmp_path / "made").write_bytes(b"model")
    out = tmp_path / ("n" * 255)
    forms._check_out(out)
    forms._hand_over(tmp_path / "made", out)
    assert out.read_bytes() == b"model"


def test_two_of_one_name_share_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Goal: who was told that it is there has a whole file of his own.

    Method: a second one has written half when the first one ends.
    """
    out = tmp_path / "out"
    (tmp_path / "a").write_bytes(b"a" * 10)
    second = contextlib.ExitStack()

    def copy(read: BinaryIO, written: BinaryIO) -> None:
        written.write(read.read())
        other = second.enter_context(wholefile.new_file(out))
        other.write(b"bb")
        other.flush()

    monkeypatch.setattr(shutil, "copyfileobj", copy)
    forms._hand_over(tmp_path / "a", out)
    assert out.read_bytes() == b"a" * 10
    with pytest.raises(Conflict, match="exists"):
        second.close()
    assert out.read_bytes() == b"a" * 10
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "out"]


@pytest.mark.parametrize("has_links", [True, False])
def test_file_that_comes_meanwhile_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, has_links: bool
) -> None:
    """Also in the last moment, unless the file system has no hard links."""
    out = tmp_path / "out"
    (tmp_path / "made").write_bytes(b"model")
    if has_links:
        monkeypatch.setattr(os.path, "lexists", lambda _path: False)
    else:

        def refuse(_old: Path, _new: Path) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(os, "fsync", lambda _fd: out.write_bytes(b"theirs"))
    with pytest.raises(Conflict, match="exists"):
        forms._hand_over(tmp_path / "made", out)
    assert out.read_bytes() == b"theirs"
    out.unlink()
    monkeypatch.setattr(os, "fsync", lambda _fd: None)
    forms._hand_over(tmp_path / "made", out)
    assert out.read_bytes() == b"model"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made", "out"]


def test_places_where_no_file_can_be_are_named(tmp_path: Path) -> None:
    (tmp_path / "made").write_bytes(b"model")
    with pytest.raises(StoreUnavailable, match="File name too long"):
        forms._check_out(tmp_path / ("n" * 300))
    with pytest.raises(NotFound, match="no folder"):
        forms._check_out(tmp_path / "made" / "out")
    with pytest.raises(NotFound, match="/gone does not exist"):
        forms._hand_over(tmp_path / "made", tmp_path / "gone" / "out")
