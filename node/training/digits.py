"""`digits`: a classifier of handwritten digits, learned from the data scikit-learn carries.

Knows the recipe: 1,797 pictures of 8 x 8 grey values 0 to 16, a quarter held out by a fixed seed
and never learned from; a network of two inner layers; the graph, and the held-out quarter as a
file of slices, ready to be registered and evaluated.

Source: Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits (UCI), as
`sklearn.datasets.load_digits` has it.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from prsm.node.worker import session
from prsm.node.worker.recipes.files import keep
from prsm.node.worker.recipes.graph import GraphBuilder
from prsm.protocol.slices import LABEL, encode_slices
from prsm.protocol.tensors import Dtype, Tensor, TensorHead

PIXELS: Final = "pixels"
SCORES: Final = "scores"
_GREY_MAX: Final = 16.0
_CLASSES: Final = 10
_SEED: Final = 0
_INNER: Final = (96, 64)  # large enough to be cut into stages, small enough for a second
_ROWS_PER_SLICE: Final = 32
_Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Built:
    """What the recipe made.

    Attributes:
        model: the ONNX file.
        dataset: the held-out pictures and labels.
        rows: pictures held out.
        accuracy: share of them the ONNX graph names rightly.
    """

    model: Path
    dataset: Path
    rows: int
    accuracy: float


@dataclass(frozen=True, slots=True)
class Pictures:
    """Pictures float32 (rows, 64) of grey values 0 to 16, and their digits int64 (rows,)."""

    pixels: _Array
    labels: _Array


def load() -> tuple[Pictures, Pictures]:
    """Pictures to learn from, and the held-out quarter; the same on every machine."""
    pixels, labels = load_digits(return_X_y=True)
    parts = train_test_split(
        pixels.astype(np.float32),
        labels.astype(np.int64),
        test_size=0.25,
        random_state=_SEED,
        stratify=labels,
    )
    return Pictures(parts[0], parts[2]), Pictures(parts[1], parts[3])


def learn(data: Pictures, *, rounds: int = 120) -> onnx.ModelProto:
    """Train, and write the graph: `pixels` float32 (batch, 64) to `scores` float32 (batch, 10).

    Scores are probabilities; the digit is their argmax.
    """
    network = MLPClassifier(
        _INNER, random_state=_SEED, max_iter=rounds, n_iter_no_change=rounds, alpha=1e-3
    )
    with warnings.catch_warnings():
        # That it stops after so many rounds is meant, and no reason to warn.
        warnings.simplefilter("ignore", ConvergenceWarning)
        network.fit(data.pixels / np.float32(_GREY_MAX), data.labels)
    graph = GraphBuilder("digits")
    here = graph.input(PIXELS, onnx.TensorProto.FLOAT, ["batch", data.pixels.shape[1]])
    here = graph.node("Div", [here, graph.scalar("grey", _GREY_MAX)])
    layers = list(zip(network.coefs_, network.intercepts_, strict=True))
    for place, (weight, bias) in enumerate(layers):
        if place:
            here = graph.node("Relu", [here])
        here = graph.linear(f"l{place}.", here, weight.astype(np.float32), bias.astype(np.float32))
    graph.node("Softmax", [here], to_name=SCORES, axis=-1)
    graph.output(SCORES, onnx.TensorProto.FLOAT, ["batch", _CLASSES])
    return graph.model()


def accuracy(raw: bytes, data: Pictures) -> float:
    """Share of the pictures an ONNX graph names rightly."""
    model = session.load(raw)
    scores = session.compute(model, {PIXELS: data.pixels}, session.run_options())[SCORES]
    return float((scores.argmax(axis=1) == data.labels).mean())


def slices(data: Pictures) -> bytes:
    """The pictures as a dataset: slices of 32 rows, the label last."""
    batches = []
    for start in range(0, len(data.labels), _ROWS_PER_SLICE):
        pixels = data.pixels[start : start + _ROWS_PER_SLICE]
        labels = data.labels[start : start + _ROWS_PER_SLICE]
        batches.append(
            [
                Tensor(TensorHead(PIXELS, Dtype.F32, pixels.shape), pixels.tobytes()),
                Tensor(TensorHead(LABEL, Dtype.I64, labels.shape), labels.tobytes()),
            ]
        )
    return encode_slices(batches)


def write(out: Path, *, say: Callable[[str], None]) -> Built:
    """Train, and write `model.onnx` and `heldout.slices` into a directory."""
    out.mkdir(parents=True, exist_ok=True)
    known, held_out = load()
    say(f"{len(known.labels)} pictures to learn from, {len(held_out.labels)} held out")
    raw = learn(known).SerializeToString(deterministic=True)
    share = accuracy(raw, held_out)
    say(f"accuracy on the held-out pictures: {share:.4f}")
    keep(out / "heldout.slices", slices(held_out))
    keep(out / "model.onnx", raw)
    return Built(out / "model.onnx", out / "heldout.slices", len(held_out.labels), share)
