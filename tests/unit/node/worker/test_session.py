from functools import cache

import numpy as np
import pytest

from prsm.node.worker import session
from prsm.node.worker.pipe import Array
from prsm.protocol.messages.pipe import Cancelled, InputMismatch, ModelRefused
from tests.tools import graphs


@cache
def _encoder() -> session.Model:
    return session.load(graphs.encoder().SerializeToString())


def _rows(rows: int = 2, tokens: int = 5) -> dict[str, Array]:
    ones = np.ones((rows, tokens), np.int64)
    return {"input_ids": ones, "attention_mask": ones}


def test_check_inputs_passes_what_the_graph_takes() -> None:
    session.check_inputs(_encoder(), _rows())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pixels": np.ones((2, 5), np.int64)}, "unknown input 'pixels'.*input_ids"),
        ({"input_ids": np.ones((2, 5), np.int32)}, "is int32, the graph takes int64"),
        ({"input_ids": np.ones((2, 5, 1), np.int64)}, r"has shape \[2, 5, 1\]"),
        ({"attention_mask": np.ones((2, 6), np.int64)}, "tokens = 6, another input has 5"),
        ({"attention_mask": np.ones((3, 5), np.int64)}, "batch = 3, another input has 2"),
    ],
)
def test_check_inputs_names_what_differs(change: dict[str, Array], words: str) -> None:
    with pytest.raises(InputMismatch, match=words):
        session.check_inputs(_encoder(), _rows() | change)


def test_check_inputs_names_a_missing_input() -> None:
    with pytest.raises(InputMismatch, match="'attention_mask' is missing"):
        session.check_inputs(_encoder(), {"input_ids": np.ones((2, 5), np.int64)})


def test_check_inputs_refuses_another_fixed_size() -> None:
    model = session.load(graphs.mlp().SerializeToString())
    with pytest.raises(InputMismatch, match=r"\[3, 71\].*'batch', 72"):
        session.check_inputs(model, {"x": np.ones((3, 71), np.float32)})


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_check_finite_refuses_nan_and_infinity(value: float) -> None:
    array = np.zeros((3, 4), np.float32)
    array[1, 2] = value
    with pytest.raises(InputMismatch, match="NaN or infinity"):
        session.check_finite({"x": array})


def test_check_finite_passes_empty_and_whole_numbers() -> None:
    session.check_finite({"a": np.zeros((0, 4), np.float32), "b": np.ones(3, np.int64)})


def test_compute_maps_an_index_out_of_range() -> None:
    rows = _rows()
    rows["input_ids"] = rows["input_ids"] * 10_000
    with pytest.raises(InputMismatch, match="the graph refuses"):
        session.compute(_encoder(), rows, session.run_options())


def test_compute_is_cancelled_by_its_options() -> None:
    options = session.run_options()
    options.terminate = True
    with pytest.raises(Cancelled):
        session.compute(_encoder(), _rows(), options)


def test_load_maps_what_the_runtime_refuses() -> None:
    with pytest.raises(ModelRefused, match="the runtime refuses"):
        session.load(b"junk")


def test_rows_of_a_batch_do_not_touch_each_other() -> None:
    """Goal: a batch of 4 gives the bits of two batches of 2 (fp32, rule R9)."""
    dice = np.random.default_rng(1)
    ids = dice.integers(0, 256, (4, 9))
    mask = np.ones((4, 9), np.int64)
    rows = {"input_ids": ids, "attention_mask": mask}
    whole = session.compute(_encoder(), rows, session.run_options())["sentence_embedding"]
    halves = [
        session.compute(
            _encoder(), {n: a[start : start + 2] for n, a in rows.items()}, session.run_options()
        )["sentence_embedding"]
        for start in (0, 2)
    ]
    assert np.concatenate(halves).tobytes() == whole.tobytes()


def test_output_root_sees_one_bit() -> None:
    array = np.ones((2, 3), np.float32)
    other = array.copy()
    other.view(np.uint32)[1, 1] ^= 1
    roots = {
        session.output_root({"y": array}),
        session.output_root({"y": other}),
        session.output_root({"z": array}),
        session.output_root({"y": array.reshape(3, 2)}),
    }
    assert len(roots) == 4
    assert session.output_root({"y": array.copy()}) in roots
