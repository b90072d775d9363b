"""Tables of one's own become datasets; each slip of the pen is named by line and column."""

import json
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
