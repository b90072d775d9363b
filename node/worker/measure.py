"""What smaller weights cost: two forms of one network on the same inputs, side by side.

Knows three kinds of samples: labelled pictures or the like (accuracy), texts for an encoder
(likeness of its vectors) or for a generating decoder (loss), and made-up rows where nothing better
is given. Figures are whole millionths, since the pipe carries no floats. Must not know how weights
were made smaller.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from prsm.node.worker import session, text
from prsm.node.worker.pipe import NUMPY, Array, read_arrays
from prsm.protocol.errors import LocalError, Unsupported, WireError
from prsm.protocol.generating import LOGITS, MASK, PLACES, KvShape, kv_shape
from prsm.protocol.messages.forms import Figure
from prsm.protocol.messages.models import TensorSpec
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
        InputMismatch: no dataset.
    """
    batches, labels = [], []
    try:
        layout = read_layout(raw)
        check_dataset(layout.head)
        for index, part in enumerate(layout.head.slices):
            start, size = layout.place(index)
            arrays = read_arrays(part.tensors, memoryview(raw)[start : start + size])
            labels.append(arrays.pop(LABEL))
            batches.append(arrays)
    except (LocalError, WireError) as error:
        raise InputMismatch(f"the samples are no dataset: {error.what}") from error
    return Sample(tuple(batches), tuple(labels))


def of_texts(raw: bytes, tokenizer: Tokenizer, model: session.Model) -> Sample:
    """Read texts: rows of an encoder, one a line, or windows of a decoder, over the whole.

    Raises:
        InputMismatch: no text, or too little.
    """
    words = raw.decode("utf-8", "replace")
    if _decoder(model) is None:
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
        outcome.outputs.append(_comparable(model.outputs[0].name, outputs))
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
        if len(labels) != len(ours):
            raise InputMismatch(f"{len(ours)} rows of output for {len(labels)} labels")
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
    shape = _decoder(model)
    assert shape is not None, "windows are of decoders"
    cache = {part.past.name: _nothing(part.past, len(windows)) for part in shape.cache}
    losses: list[float] = []
    spent = 0
    for place in range(windows.shape[1] - 1):
        feeds = {shape.carried.name: windows[:, place : place + 1], **cache}
        if shape.places:
            feeds[PLACES] = np.full((len(windows), 1), place, np.int64)
        if shape.mask:
            feeds[MASK] = np.ones((len(windows), place + 1), np.int64)
        session.check_inputs(model, feeds)
        before = time.thread_time_ns()
        outputs = session.compute(model, feeds, session.run_options())
        spent += (time.thread_time_ns() - before) // 1000
        here = outputs[LOGITS].astype(np.float64)
        here = here[:, -1] if here.ndim == 3 else here
        logits.append(here)
        losses.append(_cross_entropy(here, windows[:, place + 1]))
        cache = {part.past.name: outputs[part.present] for part in shape.cache}
    return losses, spent


def _decoder(model: session.Model) -> KvShape | None:
    """How a graph generates; None where it has no cache.

    Raises:
        InputMismatch: it has one, and generates in a form that is not known.
    """
    if not any(spec.name.startswith("past") for spec in model.inputs):
        return None
    # What else it gives is of no use to a generation, and in nobody's way here.
    read = [s for s in model.outputs if s.name == LOGITS or s.name.startswith("present")]
    has_logits = any(spec.name == LOGITS for spec in read)
    try:
        shape = kv_shape(model.inputs, read if has_logits else model.outputs)
    except Unsupported as error:
        raise InputMismatch(error.what) from error
    if not (shape.is_first and shape.is_last):
        raise InputMismatch(
            f"this graph makes {shape.made.name!r} of {shape.carried.name!r}, "
            f"a comparison needs {LOGITS!r} of tokens"
        )
    return shape


def _nothing(past: TensorSpec, rows: int) -> Array:
    """A cache before the first token: batch first, the free axis begins with nothing."""
    rest = (0 if isinstance(axis, str) else axis for axis in past.shape[1:])
    return np.zeros((rows, *rest), NUMPY[past.dtype])


def _comparable(name: str, outputs: Mapping[str, Array]) -> Array:
    """The output that is compared, which must have rows, and numbers in them."""
    array = outputs[name]
    if not array.ndim or not array.size:
        raise InputMismatch(f"output {name!r} has shape {list(array.shape)}: no rows to compare")
    session.check_finite({name: array})
    return array


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
    if not (math.isfinite(base) and math.isfinite(found)):
        raise InputMismatch(f"{name}: the outputs hold NaN or infinity")
    return Figure(name, round(base * _MILLION), round(found * _MILLION))
