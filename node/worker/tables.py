"""`python -m prsm.node.worker.tables FILE --out OUT`: rows of a table as a dataset's file.

Reads CSV, TSV and NPZ and writes slices (docs/spec/storage.md, "Slices"). Started by
`prsm dataset build`, which needs no node: the answer is one JSON document on standard output.

Knows: numpy's formats, the form of a dataset. Must not know: models, nodes, networks.
"""

import argparse
import csv
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from prsm.node.worker.pipe import NUMPY, Array
from prsm.protocol.errors import LocalError, WireError
from prsm.protocol.slices import (
    LABEL,
    SLICE_BYTES_MAX,
    SLICES_MAX,
    BadSlices,
    encode_slices,
    read_layout,
)
from prsm.protocol.tensors import Tensor, TensorHead
from prsm.storage.wholefile import new_file

INPUT: Final = "x"
SLICE_ROWS: Final = 256
_FAILED: Final = 1
_F32_MAX: Final = float(np.finfo(np.float32).max)
_LABEL_MAX: Final = 2**63 - 1
_BYTES_MAX: Final = 2 * 2**30  # of the arrays: they are held in memory here
_DELIMITERS: Final[Mapping[str, str]] = {".csv": ",", ".tsv": "\t"}
_DTYPES: Final = {kind: dtype for dtype, kind in NUMPY.items()}
# What other tools write by default, and what a model takes instead.
_NARROWED: Final[Mapping[np.dtype[Any], np.dtype[Any]]] = {
    np.dtype("f8"): np.dtype("<f4"),
    np.dtype("u4"): np.dtype("<i8"),
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of the table is label and input.

    Attributes:
        label: column of a text table, or array of an NPZ.
        input: name of the model's input that a text table's other columns make up.
        drop: columns or arrays left out.
        slice_rows: rows of one slice; a worker is given whole slices.
    """

    label: str = LABEL
    input: str = INPUT
    drop: tuple[str, ...] = ()
    slice_rows: int = SLICE_ROWS


@dataclass(frozen=True, slots=True)
class Table:
    """Named arrays with rows along the first axis; `labels` int64 (rows,).

    `classes` are the words that stood for the labels, in the order of their numbers; empty if the
    labels were numbers.
    """

    inputs: Mapping[str, Array]
    labels: Array
    classes: tuple[str, ...] = ()


def read_table(path: Path, wanted: Wanted) -> Table:
    """Read a table by the ending of its name.

    Raises:
        BadSlices: no such file, another ending, a cell that is no number, rows of different
            length, or no label; the text names file, line and column.
    """
    try:
        if path.suffix == ".npz":
            return _read_npz(path, wanted)
        if path.suffix in _DELIMITERS:
            return _read_text(path, wanted)
    except (OSError, ValueError, csv.Error, zipfile.BadZipFile, NotImplementedError) as error:
        # Also no UTF-8, and what numpy and zipfile raise over archives that are damaged.
        raise BadSlices(f"{path} cannot be read: {error}") from error
    raise BadSlices(
        f"{path.name} ends in {path.suffix or 'nothing'}", hint="give a .csv, .tsv or .npz file"
    )


def to_slices(table: Table, slice_rows: int) -> bytes:
    """The table as a dataset's file.

    Raises:
        BadSlices: no rows, too many slices, a slice over 64 MiB, or arrays whose names, number or
            axes no dataset holds.
    """
    rows = len(table.labels)
    if not rows:
        raise BadSlices("the table has no rows")
    if slice_rows < 1:
        raise BadSlices(f"slices of {slice_rows} rows, at least 1")
    count = -(-rows // slice_rows)
    if count > SLICES_MAX:
        least = -(-rows // SLICES_MAX)
        raise BadSlices(
            f"{rows} rows make {count} slices of {slice_rows}, at most {SLICES_MAX}",
            hint=f"--slice-rows {least} or more",
        )
    arrays = [*table.inputs.items(), (LABEL, table.labels)]
    width = sum(array[:slice_rows].nbytes for _, array in arrays)
    if width > SLICE_BYTES_MAX:
        raise BadSlices(
            f"{slice_rows} rows are {width} bytes, at most {SLICE_BYTES_MAX} a slice",
            hint=f"--slice-rows {max(1, slice_rows * SLICE_BYTES_MAX // width)}",
        )
    starts = range(0, rows, slice_rows)
    try:
        raw = encode_slices([_slice(arrays, start, start + slice_rows) for start in starts])
        read_layout(raw)  # a name too long is refused by who reads it, not by who writes
    except WireError as error:
        raise BadSlices(f"no dataset holds these arrays: {error.what}") from error
    return raw


def _slice(arrays: Sequence[tuple[str, Array]], start: int, stop: int) -> tuple[Tensor, ...]:
    parts = ((name, np.ascontiguousarray(array[start:stop])) for name, array in arrays)
    return tuple(
        Tensor(TensorHead(name, _DTYPES[part.dtype], part.shape), part.tobytes())
        for name, part in parts
    )


def _read_text(path: Path, wanted: Wanted) -> Table:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=_DELIMITERS[path.suffix], strict=True)
        names = next(reader, [])
        if wanted.label not in names:
            raise BadSlices(
                f"{path.name} has no column {wanted.label!r}: {', '.join(names)[:200] or 'none'}",
                hint="name it with --label COLUMN; the first line holds the names",
            )
        at = names.index(wanted.label)
        taken = [i for i, name in enumerate(names) if i != at and name not in wanted.drop]
        if not taken:
            raise BadSlices(f"{path.name} has no column beside {wanted.label!r}")
        rows: list[list[float]] = []
        labels: list[str] = []
        for row in reader:
            if not row:
                continue  # a blank line, as editors leave at the end
            if len(row) != len(names):
                where = f"{path.name}, line {reader.line_num}"
                raise BadSlices(f"{where}: {len(row)} cells, the first line has {len(names)}")
            rows.append([_number(path, reader.line_num, names[i], row[i]) for i in taken])
            labels.append(row[at])
    table = np.asarray(rows, np.float32).reshape(len(rows), len(taken))
    return Table({wanted.input: table}, *_labels(labels))


def _number(path: Path, line: int, column: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not abs(number) <= _F32_MAX:  # also what is not a number at all
        raise BadSlices(
            f"{path.name}, line {line}, column {column!r}: {text[:40]!r} is no number of 32 bits",
            hint="fill or drop such rows first, or leave the column out with --drop COLUMN",
        )
    return number


def _labels(texts: Sequence[str]) -> tuple[Array, tuple[str, ...]]:
    """Numbers stay what they are; words become their place among all words, sorted."""
    try:
        return np.asarray([int(text) for text in texts], np.int64), ()
    except OverflowError as error:
        wide = max(texts, key=lambda text: abs(int(text)))
        raise BadSlices(f"label {wide[:40]} is no number of 64 bits") from error
    except ValueError:
        classes = tuple(sorted(set(texts)))
        places = {word: place for place, word in enumerate(classes)}
        return np.asarray([places[text] for text in texts], np.int64), classes


def _read_npz(path: Path, wanted: Wanted) -> Table:
    with zipfile.ZipFile(path) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    if size > _BYTES_MAX:
        raise BadSlices(f"{path.name} unpacks to {size} bytes, at most {_BYTES_MAX}")
    arrays = dict(_arrays(path, wanted))
    labels = arrays.pop(wanted.label, None)
    if labels is None or not arrays:
        raise BadSlices(
            f"{path.name} has the arrays {', '.join(sorted(arrays))[:200] or 'none'}; it needs "
            f"{wanted.label!r} and one input",
            hint="name the labels with --label ARRAY",
        )
    if labels.ndim != 1 or labels.dtype.kind not in "iub":
        raise BadSlices(f"labels are {labels.dtype} {list(labels.shape)}, not integers of one axis")
    if labels.dtype.kind == "u" and labels.size and labels.max() > _LABEL_MAX:
        raise BadSlices(f"label {labels.max()} is no number of 64 bits with a sign")
    for name, array in arrays.items():
        if array.shape[:1] != labels.shape:
            raise BadSlices(f"{name} is {list(array.shape)}, there are {len(labels)} labels")
    return Table(arrays, labels.astype("<i8"))


def _arrays(path: Path, wanted: Wanted) -> Iterator[tuple[str, Array]]:
    with np.load(path, allow_pickle=False) as archive:
        for name in archive.files:
            if name in wanted.drop:
                continue
            try:
                array: Array | bytes = archive[name]
            except Exception as error:  # objects, sealed or foreign packing, sizes that lie
                words = " ".join(str(error).split())
                raise BadSlices(f"{path.name}: {name}: {words}"[:200]) from error
            if isinstance(array, bytes):  # of a file that is no array
                what = f"{path.name}: {name} is no array"
                raise BadSlices(what, hint=f"leave it out: --drop {name}")
            kind = _NARROWED.get(array.dtype, array.dtype.newbyteorder("<"))
            with np.errstate(over="ignore"):  # what overflows is refused below
                narrow = array.astype(kind)
            if narrow.dtype not in _DTYPES and name != wanted.label:
                raise BadSlices(f"{path.name}: {name} is {array.dtype}, which no input takes")
            if narrow.dtype.kind == "f" and not np.isfinite(narrow).all():
                raise BadSlices(
                    f"{path.name}: {name} has values that are not finite in {narrow.dtype}"
                )
            yield name, narrow


def build(path: Path, out: Path, wanted: Wanted) -> dict[str, object]:
    """Write the dataset beside nothing: an existing file is not overwritten.

    Returns:
        The answer of the command.

    Raises:
        BadSlices: as `read_table` and `to_slices`, or `out` exists or cannot be written.
    """
    table = read_table(path, wanted)
    raw = to_slices(table, wanted.slice_rows)
    try:
        with new_file(out, mode=0o666) as file:
            file.write(raw)
    except LocalError as error:
        raise BadSlices(error.what, hint=error.hint) from error
    return {
        "dataset": str(out),
        "rows": len(table.labels),
        "slices": len(read_layout(raw).head.slices),
        "size_bytes": len(raw),
        "inputs": [
            {"name": name, "dtype": array.dtype.name, "shape": list(array.shape[1:])}
            for name, array in table.inputs.items()
        ],
        "classes": list(table.classes),
    }


def main(argv: Sequence[str]) -> int:
    """Write one dataset; 1 when it cannot be, with the reason in one JSON document."""
    parser = argparse.ArgumentParser(prog="python -m prsm.node.worker.tables")
    parser.add_argument("path", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--label", default=LABEL)
    parser.add_argument("--input", default=INPUT)
    parser.add_argument("--drop", action="append", default=[])
    parser.add_argument("--slice-rows", type=int, default=SLICE_ROWS)
    given = parser.parse_args(argv)
    wanted = Wanted(given.label, given.input, tuple(given.drop), given.slice_rows)
    try:
        _answer(build(given.path, given.out, wanted))
    except LocalError as error:
        _answer({"error": {"reason": error.reason, "what": error.what, "hint": error.hint}})
        return _FAILED
    return 0


def _answer(value: Mapping[str, object]) -> None:
    print(msgspec.json.encode(value).decode(), flush=True)  # noqa: T201 - the program's answer


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
