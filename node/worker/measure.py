"""What smaller weights cost: two forms of one network on the same inputs, side by side.

Knows three kinds of samples: labelled pictures or the like (accuracy), texts for an encoder
(likeness of its vectors) or for a generating decoder (loss), and made-up rows where nothing better
is given. Figures are whole millionths, since the pipe carries no floats. Must not know how weights
were made smaller.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from prsm.node.worker import session, text
from prsm.node.worker.pipe import Array, read_arrays
from prsm.protocol.messages.forms import Figure
from prsm.protocol.messages.pipe import InputMismatch
from prsm.protocol.slices import LABEL, check_dataset, read_layout

_MILLION: Final = 1_000_000
_REPEATS: Final = 3
_ROWS: Final = 32
_WINDOWS: Final = 16  # rows of a decoder's loss
_WINDOW_TOKENS: Final = 64
_TEXTS_MAX: Final = 512
_TOKENS_MAX: Final = 256
_Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Sample:
    """Inputs to compare on: batches of feeds, and the labels of each batch if they are known.

    Attributes:
        batches: inputs by name.
        labels: int64 (rows,) for each batch; empty when nobody knows them.
        windows: int64 (rows, tokens) of a decoder, instead of batches.
    """

    batches: tuple[Mapping[str, Array], ...] = ()
    labels: tuple[Array, ...] = ()
    windows: Array | None = None


@dataclass(slots=True)
class Outcome:
    """What one form of the network said, and the processor time it took."""

    outputs: list[Array] = field(default_factory=list)
    loss: float = 0.0
    cpu_us: int = 0  # the fullest batch, or one step of all windows
    row_cpu_us: int = 0  # one row


def of_slices(raw: bytes) -> Sample:
    """Read a labelled dataset.

    Raises:
        LocalError: no dataset.
    """
    layout = read_layout(raw)
    check_dataset(layout.head)
    batches, labels = [], []
    for index, part in enumerate(layout.head.slices):
        start, size = layout.place(index)
        arrays = read_arrays(part.tensors, memoryview(raw)[start : start + size])
        labels.append(arrays.pop(LABEL))
        batches.append(arrays)
    return Sample(tuple(batches), tuple(labels))


def of_texts(raw: bytes, tokenizer: Tokenizer, model: session.Model) -> Sample:
    """Read texts: rows of an encoder, one a line, or windows of a decoder, over the whole.

    Raises:
        InputMismatch: no text, or too little.
    """
    words = raw.decode("utf-8", "replace")
    if not _cache(model):
        lines = [line for line in words.splitlines() if line.strip()][:_TEXTS_MAX]
        if len(lines) < 2:
            raise InputMismatch(f"{len(lines)} lines of text, a comparison needs 2 or more")
        found = text.batches(tokenizer, lines, rows_per_batch=_ROWS, tokens_max=_TOKENS_MAX)
        known = {spec.name for spec in model.inputs}
        batches = [{n: a for n, a in feeds.items() if n in known} for _, feeds in found]
        return Sample(tuple(batches))
    ids = np.array(text.ids_of(tokenizer, words[: 64 * _WINDOWS * _WINDOW_TOKENS]), np.int64)
    tokens = min(_WINDOW_TOKENS, len(ids) // 2 - 1)
    if tokens < 1:
        raise InputMismatch(f"a text of {len(ids)} tokens is too short to be asked about")
    starts = np.linspace(0, len(ids) - tokens - 1, _WINDOWS).astype(int)
    return Sample(windows=np.stack([ids[start : start + tokens + 1] for start in starts]))


def run(model: session.Model, sample: Sample) -> Outcome:
    """Run one form of the network over a sample.

    Raises:
        InputMismatch: the sample does not fit the graph.
    """
    if sample.windows is not None:
        return _generate(model, sample.windows)
    outcome = Outcome()
    for feeds in sample.batches:
        session.check_inputs(model, feeds)
        outputs = session.compute(model, feeds, session.run_options())
        outcome.outputs.append(next(iter(outputs.values())))
    fullest = max(sample.batches, key=lambda feeds: sum(a.nbytes for a in feeds.values()))
    outcome.cpu_us = cpu_us(model, fullest)
    outcome.row_cpu_us = cpu_us(model, {name: array[:1] for name, array in fullest.items()})
    return outcome


def compare(sample: Sample, base: Outcome, found: Outcome) -> tuple[Figure, ...]:
    """What the smaller form does worse, in millionths."""
    if sample.windows is not None:
        same = [
            float((ours.argmax(axis=-1) == theirs.argmax(axis=-1)).mean())
            for ours, theirs in zip(base.outputs, found.outputs, strict=True)
        ]
        return (
            _figure("loss, nats a token", base.loss, found.loss),
            _figure("same next token", 1.0, float(np.mean(same))),
        )
    ours, theirs = _rows(base.outputs), _rows(found.outputs)
    cosines = (_unit(ours) * _unit(theirs)).sum(axis=1)
    figures = [
        _figure("cosine, mean", 1.0, float(cosines.mean())),
        _figure("cosine, least", 1.0, float(cosines.min())),
    ]
    if sample.labels:
        labels = np.concatenate(sample.labels)
        right = [float((rows.argmax(axis=1) == labels).mean()) for rows in (ours, theirs)]
        figures.append(_figure("accuracy", *right))
        figures.append(_figure("same class", 1.0, _share(ours.argmax(1), theirs.argmax(1))))
    elif len(ours) > 2:
        figures.append(_figure("same nearest row", 1.0, _share(_nearest(ours), _nearest(theirs))))
    return tuple(figures)


def _generate(model: session.Model, windows: Array) -> Outcome:
    """Loss of each token given those before it, step by step over the cache."""
    outcome = Outcome()
    steps = windows.shape[1] - 1
    losses, outcome.cpu_us = _steps(model, windows, outcome.outputs)
    outcome.loss = float(np.mean(losses))
    outcome.cpu_us //= steps
    _, spent = _steps(model, windows[:1], [])
    outcome.row_cpu_us = spent // steps
    return outcome


def _steps(model: session.Model, windows: Array, logits: list[Array]) -> tuple[list[float], int]:
    known = {spec.name for spec in model.inputs}
    carried = "ids" if "ids" in known else "input_ids"
    cache = {name: np.zeros(shape(len(windows)), np.float32) for name, shape in _cache(model)}
    losses: list[float] = []
    spent = 0
    for place in range(windows.shape[1] - 1):
        given = {
            carried: windows[:, place : place + 1],
            "position_ids": np.full((len(windows), 1), place, np.int64),
            "attention_mask": np.ones((len(windows), place + 1), np.int64),
        }
        feeds = {name: array for name, array in given.items() if name in known} | cache
        session.check_inputs(model, feeds)
        before = time.thread_time_ns()
        outputs = session.compute(model, feeds, session.run_options())
        spent += (time.thread_time_ns() - before) // 1000
        here = outputs["logits"].astype(np.float64)
        here = here[:, -1] if here.ndim == 3 else here
        logits.append(here)
        losses.append(_cross_entropy(here, windows[:, place + 1]))
        cache = {name: outputs[name.replace("past", "present", 1)] for name in cache}
    return losses, spent


@dataclass(frozen=True, slots=True)
class _CacheShape:
    """Axes of an input that carries the cache: batch first, the free axis begins with nothing."""

    axes: tuple[int | str, ...]

    def __call__(self, rows: int) -> tuple[int, ...]:
        rest = (0 if isinstance(axis, str) else axis for axis in self.axes[1:])
        return (rows, *rest)


def _cache(model: session.Model) -> list[tuple[str, _CacheShape]]:
    return [(s.name, _CacheShape(s.shape)) for s in model.inputs if s.name.startswith("past")]


def _cross_entropy(logits: _Floats, ids: Array) -> float:
    top = logits.max(axis=1, keepdims=True)
    total = np.log(np.exp(logits - top).sum(axis=1)) + top[:, 0]
    return float((total - logits[np.arange(len(ids)), ids]).mean())


def cpu_us(model: session.Model, feeds: Mapping[str, Array]) -> int:
    """Least of three runs; the runtime computes on the calling thread alone."""
    spent = []
    for _ in range(_REPEATS):
        before = time.thread_time_ns()
        session.compute(model, feeds, session.run_options())
        spent.append(time.thread_time_ns() - before)
    return min(spent) // 1000


def _rows(outputs: Sequence[Array]) -> _Floats:
    """All rows of all batches, flat; padded to the longest, as buckets differ."""
    flat = [array.reshape(len(array), -1).astype(np.float64) for array in outputs]
    width = max(array.shape[1] for array in flat)
    return np.concatenate([np.pad(a, ((0, 0), (0, width - a.shape[1]))) for a in flat])


def _unit(rows: _Floats) -> _Floats:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length == 0, 1.0, length)


def _nearest(rows: _Floats) -> npt.NDArray[np.intp]:
    """The most alike other row of each."""
    likeness = _unit(rows) @ _unit(rows).T
    np.fill_diagonal(likeness, -np.inf)
    nearest: npt.NDArray[np.intp] = likeness.argmax(axis=1)
    return nearest


def _share(ours: npt.NDArray[np.intp], theirs: npt.NDArray[np.intp]) -> float:
    return float((ours == theirs).mean())


def _figure(name: str, base: float, found: float) -> Figure:
    return Figure(name, round(base * _MILLION), round(found * _MILLION))
