"""The audit log: a chain of lines that shows what was changed, and survives its writer."""

import errno
import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prsm.node.callers import audit as module
from prsm.node.callers.audit import (
    FIRST,
    AuditLog,
    Entry,
    Note,
    Root,
    check_files,
    encode_line,
    hash_of,
)
from prsm.node.clock import TrioClock
from prsm.storage.disk import PosixDisk
from prsm.storage.errors import Full

CALL = Note("call", "token lab", subject="node_stop", tenant="lab", token_id="t1", trace_id="x")


async def written(folder: Path, count: int) -> AuditLog:
    audit = await AuditLog.open(folder, TrioClock())
    for number in range(count):
        await audit.write(CALL, {"params": f"{number}"})
    return audit


def found(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.glob(pattern))


async def test_lines_are_chained_and_found_again(tmp_path: Path) -> None:
    """Five lines, a second process goes on at the sixth; the chain holds over both."""
    first = await written(tmp_path, 5)
    second = await AuditLog.open(tmp_path, TrioClock())
    assert second.root == first.root
    entry = await second.write(CALL, {"params": "6"})
    assert (entry.seq, entry.prev) == (6, first.root.hash)
    verdict = await second.verify()
    assert (verdict.first, verdict.root, verdict.broken_at) == (1, second.root, 0)
    assert second.root.hash == hash_of(entry)
    assert (tmp_path / "audit.log").stat().st_mode & 0o777 == 0o600


async def test_empty_log_holds(tmp_path: Path) -> None:
    """Nothing written: root of zeros, nothing broken, no page."""
    audit = await AuditLog.open(tmp_path, TrioClock())
    assert audit.root == Root(0, FIRST)
    assert (await audit.verify()).broken_at == 0
    assert await audit.newest(10) == []
    assert await audit.entry(1) is None


@pytest.mark.parametrize(
    ("damage", "at"),
    [
        ("changed", 3),
        ("removed", 3),
        ("swapped", 2),
        ("added", 4),
        ("respelled", 1),
        ("garbage", 2),
        ("first", 2),
    ],
)
async def test_each_kind_of_damage_is_named(tmp_path: Path, damage: str, at: int) -> None:
    """What was done to a file of five lines shows at the line it was done to."""
    await written(tmp_path, 5)
    path = tmp_path / "audit.log"
    lines = path.read_bytes().splitlines(keepends=True)
    match damage:
        case "changed":
            lines[2] = lines[2].replace(b"node_stop", b"node_ping")
        case "removed":
            del lines[2]
        case "swapped":
            lines[1], lines[2] = lines[2], lines[1]
        case "added":
            lines.insert(3, lines[2])
        case "respelled":  # the same members, written in another way
            lines[0] = lines[0].replace(b'"seq":1', b'"seq": 1')
        case "garbage":
            lines[1] = b"not a line\n"
        case _:  # the head cut off, as if it had been moved away: only what follows is checked
            lines[0] = b""
            lines[1] = lines[1].replace(b'"seq":2', b'"seq":1')
    path.write_bytes(b"".join(lines))
    verdict = check_files(tmp_path)
    assert verdict.why
    assert verdict.broken_at == (at if damage != "first" else 1)


async def test_rewritten_lines_with_new_hashes_break_the_next(tmp_path: Path) -> None:
    """Whoever changes a line and hashes it anew must write all that follow anew."""
    await written(tmp_path, 4)
    path = tmp_path / "audit.log"
    lines = path.read_bytes().splitlines(keepends=True)
    entry = msgspec.json.decode(lines[1], type=Entry)
    changed = msgspec.structs.replace(entry, who="nobody")
    lines[1] = encode_line(msgspec.structs.replace(changed, hash=hash_of(changed)))
    path.write_bytes(b"".join(lines))
    assert check_files(tmp_path).broken_at == 3


async def test_torn_line_is_cut_off_and_said(tmp_path: Path) -> None:
    """A crash inside a line: the next process cuts it off, notes it, and goes on."""
    audit = await written(tmp_path, 2)
    path = tmp_path / "audit.log"
    with path.open("ab") as file:
        file.write(b'{"seq":3,"ts":"20')
    after = await AuditLog.open(tmp_path, TrioClock())
    repaired = (await after.newest(1))[0]
    assert (repaired.seq, repaired.event, repaired.prev) == (3, "repaired", audit.root.hash)
    assert "17 bytes" in repaired.fields["what"]
    assert (await after.verify()).broken_at == 0


async def test_unreadable_end_is_put_aside(tmp_path: Path) -> None:
    """The last line is garbage: the file is kept beside, the node goes on, verify says so."""
    await written(tmp_path, 2)
    (tmp_path / "audit.log").write_bytes(b"garbage\n")
    after = await AuditLog.open(tmp_path, TrioClock())
    await after.write(CALL, {})
    assert len(found(tmp_path, "audit.log.damaged-*")) == 1
    verdict = await after.verify()
    assert verdict.broken_at == 1
    assert "put aside" in verdict.why


@pytest.mark.parametrize("broken", [("fdatasync",), ("fdatasync", "ftruncate"), ("write",)])
async def test_line_the_disk_refused_does_not_break_the_chain(
    broken: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written and not synced, or not even taken back: the next line follows what is there."""

    def refuse(*_args: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    for count in (0, 2):  # also of a file that line would have begun
        folder = tmp_path / f"{count}"
        folder.mkdir()
        audit = await written(folder, count)
        with monkeypatch.context() as patch:
            for name in broken:
                patch.setattr(os, name, refuse)
            with pytest.raises(Full):
                await audit.write(CALL, {"params": "refused"})
        await audit.write(CALL, {"params": "there is room again"})
        verdict = await audit.verify()
        assert (verdict.broken_at, verdict.root) == (0, audit.root)
        assert audit.root.seq == count + (2 if "ftruncate" in broken else 1)
        again = await AuditLog.open(folder, TrioClock())
        assert again.root == audit.root


@pytest.mark.parametrize("broken", ["fdatasync", "sync_folder"])
async def test_file_whose_first_line_was_refused_is_named_on_disk_with_the_next(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is there by then, but its name may not outlive a power cut."""
    synced: list[str] = []

    def refuse(*_args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    audit = await written(tmp_path, 0)
    with monkeypatch.context() as patch:
        patch.setattr(os if broken == "fdatasync" else PosixDisk, broken, refuse)
        with pytest.raises(Full):
            await audit.write(CALL, {"params": "refused"})
    monkeypatch.setattr(PosixDisk, "sync_folder", lambda _disk, name: synced.append(name))
    await audit.write(CALL, {"params": "there is room again"})
    await audit.write(CALL, {"params": "and more"})
    assert synced == [str(tmp_path / "audit.log")]


async def test_file_that_a_process_left_is_named_on_disk_with_the_next_ones_first_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have been killed between the line and the folder: nobody knows of the name."""
    synced: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(PosixDisk, "sync_folder", lambda _disk, _name: None)
        await written(tmp_path, 1)
    audit = await AuditLog.open(tmp_path, TrioClock())
    monkeypatch.setattr(PosixDisk, "sync_folder", lambda _disk, name: synced.append(name))
    await audit.write(CALL, {"params": "after a restart"})
    await audit.write(CALL, {"params": "and more"})
    assert synced == [str(tmp_path / "audit.log")]


async def test_every_new_file_is_named_on_disk_with_its_first_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a new segment, and where somebody moved the open one away meanwhile."""
    synced, path = list[str](), tmp_path / "audit.log"
    audit = await written(tmp_path, 2)
    monkeypatch.setattr(PosixDisk, "sync_folder", lambda _disk, name: synced.append(name))
    with monkeypatch.context() as patch:
        patch.setattr(module, "SEGMENT_BYTES_MAX", path.stat().st_size)
        await audit.write(CALL, {"params": "begins a segment"})
    assert synced == [str(path)]
    path.rename(tmp_path / "elsewhere")
    await audit.write(CALL, {"params": "begins a file"})
    await audit.write(CALL, {"params": "and more"})
    assert synced == [str(path)] * 2


async def test_file_whose_line_was_left_in_doubt_is_named_on_disk_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first line of a segment, neither named nor taken out: it is in front of the next one."""
    synced, path = list[str](), tmp_path / "audit.log"

    def refuse(*_args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    audit = await written(tmp_path, 2)
    with monkeypatch.context() as patch:
        patch.setattr(module, "SEGMENT_BYTES_MAX", path.stat().st_size)
        patch.setattr(PosixDisk, "sync_folder", refuse)
        patch.setattr(os, "ftruncate", refuse)
        with pytest.raises(Full):
            await audit.write(CALL, {"params": "refused"})
    monkeypatch.setattr(PosixDisk, "sync_folder", lambda _disk, name: synced.append(name))
    await audit.write(CALL, {"params": "there is room again"})
    assert synced == [str(path)]
    assert (await audit.verify()).root.seq == 4


async def test_segments_are_one_chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small segments: the chain runs over them, pages too, a removed middle one shows."""
    monkeypatch.setattr(module, "SEGMENT_BYTES_MAX", 1200)
    await written(tmp_path, 20)
    closed = found(tmp_path, "audit-*.log")
    assert len(closed) > 3
    audit = await AuditLog.open(tmp_path, TrioClock())
    assert audit.root.seq == 20
    assert (await audit.verify()).broken_at == 0
    assert [entry.seq for entry in await audit.newest(7)] == list(range(20, 13, -1))
    assert [entry.seq for entry in await audit.newest(50, before=9)] == list(range(8, 0, -1))
    fifth = await audit.entry(5)
    assert fifth is not None
    assert fifth.seq == 5
    closed[0].unlink()  # moved away by its operator: the rest holds, and says where it begins
    verdict = await audit.verify()
    assert verdict.broken_at == 0
    assert verdict.first > 1
    closed[2].unlink()
    assert (await audit.verify()).broken_at > verdict.first


async def test_crash_between_closing_and_opening_a_segment(tmp_path: Path) -> None:
    """The open segment was renamed and no new one made: the next line goes on behind it."""
    audit = await written(tmp_path, 3)
    (tmp_path / "audit.log").rename(tmp_path / "audit-000000000001.log")
    after = await AuditLog.open(tmp_path, TrioClock())
    assert after.root == audit.root
    assert (await after.write(CALL, {})).seq == 4
    assert (await after.verify()).broken_at == 0


_TEXTS = st.text(max_size=40)
_ENTRIES = st.builds(
    Entry,
    seq=st.integers(1, 2**53),
    ts=_TEXTS,
    event=_TEXTS,
    who=_TEXTS,
    tenant=_TEXTS,
    token_id=_TEXTS,
    subject=_TEXTS,
    trace_id=_TEXTS,
    fields=st.dictionaries(_TEXTS, _TEXTS, max_size=4),
    prev=_TEXTS,
)


@settings(max_examples=100, deadline=None)
@given(_ENTRIES)
def test_line_is_one_line_and_reads_back(entry: Entry) -> None:
    """Whatever the texts hold, a line has one newline and gives the entry again."""
    line = encode_line(entry)
    assert line.count(b"\n") == 1
    assert msgspec.json.decode(line, type=Entry) == entry


@settings(max_examples=100, deadline=None)
@given(_ENTRIES, st.sampled_from(Entry.__struct_fields__), _TEXTS)
def test_every_member_is_hashed(entry: Entry, name: str, text: str) -> None:
    """No member can be exchanged without the hash changing."""
    if name in {"hash", "seq", "fields"} or getattr(entry, name) == text:
        return
    assert hash_of(entry) != hash_of(msgspec.structs.replace(entry, **{name: text}))
