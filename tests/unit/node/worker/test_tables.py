"""Tables of one's own become datasets; each slip of the pen is named by line and column."""

import errno
import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from prsm.node.worker.tables import Wanted, build, main, read_table, to_slices
from prsm.protocol.slices import SLICES_MAX, BadSlices, check_dataset, read_layout

_CSV = "a,b,kind\n1,2.5,dog\n-1e3,0,cat\n3,4,dog\n"
_KIND = Wanted(label="kind")


def written(folder: Path, text: str, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_columns_become_one_input_and_words_become_numbers(tmp_path: Path) -> None:
    answer = build(written(tmp_path, _CSV), tmp_path / "out", Wanted("kind", "rows", slice_rows=2))
    raw = (tmp_path / "out").read_bytes()
    layout = read_layout(raw)
    check_dataset(layout.head)
    assert layout.size == len(raw) == answer["size_bytes"]
    assert layout.head.batch_rows == (2, 1)
    assert answer["classes"] == ["cat", "dog"]
    start, size = layout.place(0)
    rows, labels = layout.read(0, raw[start : start + size])
    assert (rows.head.name, rows.head.shape) == ("rows", (2, 2))
    assert np.frombuffer(rows.data, "<f4").tolist() == [1.0, 2.5, -1000.0, 0.0]
    assert np.frombuffer(labels.data, "<i8").tolist() == [1, 0]


def test_numbers_as_labels_stay_what_they_are(tmp_path: Path) -> None:
    table = read_table(written(tmp_path, "x\tlabel\n1\t7\n2\t-1\n\n", "t.tsv"), Wanted())
    assert table.labels.tolist() == [7, -1]
    assert table.classes == ()


def test_arrays_of_an_npz_are_inputs_by_their_names(tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    pixels = np.arange(24, dtype=np.float64).reshape(3, 2, 4)
    np.savez(path, pixels=pixels, mask=np.ones((3, 5), np.int8), y=np.arange(3), note=np.zeros(9))
    table = read_table(path, Wanted(label="y", drop=("note",)))
    assert {name: (one.dtype.name, one.shape) for name, one in table.inputs.items()} == {
        "pixels": ("float32", (3, 2, 4)),
        "mask": ("int8", (3, 5)),
    }
    check_dataset(read_layout(to_slices(table, 2)).head)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no column 'kind': none"),
        ("a,b\n1,2\n", "no column 'kind': a, b"),
        ("kind\n1\n", "no column beside 'kind'"),
        ("a,kind\n1,x\n1,2,3\n", "line 3: 3 cells, the first line has 2"),
        ("a,kind\n1,x\nnan,y\n", "line 3, column 'a': 'nan' is no number"),
        ("a,kind\n1e39,x\n", "line 2, column 'a': '1e39'"),
        ("a,kind\n,x\n", "line 2, column 'a': '' is no number"),
        ("a,kind\n", "no rows"),
        ('a,kind\n"1,x\n', "cannot be read"),
    ],
)
def test_a_bad_text_table_is_refused_with_its_place(text: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(BadSlices, match=why.replace("(", r"\(")):
        build(written(tmp_path, text), tmp_path / "out", _KIND)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arrays", "why"),
    [
        ({"x": np.ones((2, 3))}, "needs 'label' and one input"),
        ({"label": np.ones(2, int)}, "needs 'label' and one input"),
        ({"x": np.ones((3, 2)), "label": np.ones(2, int)}, "there are 2 labels"),
        ({"x": np.ones((2, 2)), "label": np.ones((2, 1), int)}, "not integers of one axis"),
        ({"x": np.ones((2, 2)), "label": np.ones(2)}, "not integers of one axis"),
        ({"x": np.full((2, 2), np.inf), "label": np.ones(2, int)}, "not finite"),
        ({"x": np.ones((2, 2), complex), "label": np.ones(2, int)}, "no input takes"),
        ({"x": np.array([{}, {}], object), "label": np.ones(2, int)}, "x: Object arrays"),
    ],
)
def test_a_bad_npz_is_refused(arrays: dict[str, object], why: str, tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]  # allow_pickle is among its names
    with pytest.raises(BadSlices, match=why):
        read_table(path, Wanted())


def test_too_many_slices_name_the_rows_that_fit(tmp_path: Path) -> None:
    rows = "".join(f"{i},0\n" for i in range(SLICES_MAX + 1))
    table = read_table(written(tmp_path, f"a,label\n{rows}"), Wanted())
    with pytest.raises(BadSlices) as caught:
        to_slices(table, 1)
    assert caught.value.hint == "--slice-rows 2 or more"
    assert len(read_layout(to_slices(table, 2)).head.slices) == 129


def test_the_program_answers_once_and_overwrites_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(written(tmp_path, _CSV)), "--out", str(tmp_path / "out"), "--label", "kind"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 3
    assert main(words) == 1
    fault = json.loads(capsys.readouterr().out)["error"]
    assert fault["reason"] == "bad_dataset"
    assert "exists" in fault["what"]


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSlices, match=r"ends in \.xlsx"):
        read_table(written(tmp_path, "", "t.xlsx"), Wanted())


def _packed(folder: Path, members: dict[str, bytes]) -> Path:
    path = folder / "t.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for name, raw in members.items():
            archive.writestr(name, raw)
    return path


def _npy(array: object) -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(array))
    return file.getvalue()


_X = _npy(np.ones((2, 1), np.float32))
_LABELS = _npy([0, 1])
_LIE = _npy(np.ones((2, 1), np.float32)).replace(b"(2, 1), }          ", b"(9999999999999,), }")


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"x.npy": _X, "README.txt": b"hello"}, "README.txt is no array"),
        ({"x.npy": _LIE}, "t.npz: x: Unable to allocate"),
        ({"x.npy": b"\x93NUMPY\x01\x00\x03\x00{((" + b"0" * 9}, "t.npz: x: "),
        ({"x.npy": _npy(np.ones((2,) + (1,) * 11, np.float32))}, "no dataset holds these arrays"),
        ({"x" * 300 + ".npy": _X}, "no dataset holds these arrays"),
        ({"x.npy": _X, "label.npy": _npy(np.array([1, 2**63], np.uint64))}, "label 92233720368547"),
    ],
)
def test_arrays_that_are_none_or_lie_are_named(
    members: dict[str, bytes], words: str, tmp_path: Path
) -> None:
    path = _packed(tmp_path, {"label.npy": _LABELS, **members})
    with pytest.raises(BadSlices, match=words):
        build(path, tmp_path / "out", Wanted())


@pytest.mark.parametrize(("at", "byte"), [(0, 0), (b"PK\x01\x02", 149)])
def test_damaged_archive_is_named(at: int | bytes, byte: int, tmp_path: Path) -> None:
    """It does not begin as one; it is of a version nobody knows."""
    path = _packed(tmp_path, {"label.npy": _LABELS, "x.npy": _X})
    raw = bytearray(path.read_bytes())
    raw[at if isinstance(at, int) else raw.index(at) + 6] = byte
    path.write_bytes(raw)
    with pytest.raises(BadSlices, match=r"t\.npz cannot be read"):
        read_table(path, Wanted())


def test_sealed_archive_is_refused(tmp_path: Path) -> None:
    """The mark alone: the library reads none of it without a password."""
    path = _packed(tmp_path, {"label.npy": _LABELS, "x.npy": _X})
    raw = bytearray(path.read_bytes())
    for head, flag in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        raw[raw.index(head) + flag] |= 1
    path.write_bytes(raw)
    with pytest.raises(BadSlices, match="encrypted"):
        read_table(path, Wanted())


def test_label_of_more_than_64_bits_is_refused(tmp_path: Path) -> None:
    long = "x,label\n1,0000000000000000000000007\n2,99999999999999999999\n"
    with pytest.raises(BadSlices, match="label 99999999999999999999 is no number of 64 bits"):
        read_table(written(tmp_path, long), Wanted())


def test_slices_of_no_rows_are_refused(tmp_path: Path) -> None:
    table = read_table(written(tmp_path, _CSV), _KIND)
    with pytest.raises(BadSlices, match="slices of 0 rows, at least 1"):
        to_slices(table, 0)


def test_full_disk_leaves_no_half_file_that_then_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int) -> None:
        del fd
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    path = written(tmp_path, _CSV)
    with pytest.raises(BadSlices, match="out: No space left"):
        build(path, tmp_path / "out", _KIND)
    assert list(tmp_path.iterdir()) == [path]


def test_file_that_comes_meanwhile_and_one_named_as_a_part_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, part = tmp_path / ("n" * 250), tmp_path / ("n" * 250 + ".part")
    path = written(tmp_path, _CSV)
    part.write_bytes(b"theirs")
    monkeypatch.setattr(os, "fsync", lambda _fd: out.write_bytes(b"theirs"))
    with pytest.raises(BadSlices, match="exists"):
        build(path, out, _KIND)
    assert (out.read_bytes(), part.read_bytes()) == (b"theirs", b"theirs")
