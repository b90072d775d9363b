"""One compression in a sealed child: scan, make smaller, pin both forms, measure, hand over.

Knows the order of the steps. The one writable directory is the pin's, as in preparing. What leaves
is bytes through a sink and one report.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import onnx

from prsm.node.worker import compress, golden, lora, measure, text
from prsm.node.worker.files import read_all
from prsm.node.worker.optimise import pin
from prsm.node.worker.pipe import Frame, Pipe, send_file
from prsm.node.worker.scan import MODEL_BYTES_MAX, Policy, scan
from prsm.node.worker.session import Model, load
from prsm.protocol.codec import Record
from prsm.protocol.messages.forms import (
    Compress,
    Compressed,
    MadeAdaptable,
    MakeAdaptable,
    Samples,
)
from prsm.protocol.messages.pipe import ModelRefused, WorkerFailed

FILE: Final = "model.onnx"
SAMPLES_BYTES_MAX: Final = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Material:
    """What a compression is given: the graph, and what to compare on."""

    raw: bytes
    tokenizer: bytes | None
    samples: bytes | None


def answer(pipe: Pipe, fds: Sequence[int], folder: Path, policy: Policy, frame: Frame) -> None:
    """Answer the one call of a compressing child: a smaller form, or a graph with adapter inputs.

    Args:
        pipe: to the daemon.
        fds: the model, then the tokenizer and the samples as the call says.
        folder: writable, for the pin.
        policy: what the static gate lets through.
        frame: the call.

    Raises:
        LocalError: as `shrink` and `lora.adaptable`.
    """
    call = frame.body
    raw = read_all(fds[0], size_max=MODEL_BYTES_MAX)
    send = partial(send_file, pipe)
    match call:
        case Compress():
            rest = list(fds[1:])
            tokenizer = (
                read_all(rest.pop(0), size_max=text.TOKENIZER_BYTES_MAX)
                if call.has_tokenizer
                else None
            )
            samples = (
                read_all(rest.pop(0), size_max=SAMPLES_BYTES_MAX)
                if call.samples != Samples.MADE_UP
                else None
            )
            material = Material(raw, tokenizer, samples)
            done: Record = shrink(call, material, folder, policy, send)
        case MakeAdaptable():
            model, sites = lora.adaptable(scan(raw, policy))
            send(FILE, model.SerializeToString(deterministic=True))
            done = MadeAdaptable(tuple((one.name, one.rows, one.columns) for one in sites))
        case _:
            raise WorkerFailed(f"a compressing child takes no {type(call).__name__}")
    pipe.write(done, request_id=frame.request_id)


def shrink(
    call: Compress,
    material: Material,
    folder: Path,
    policy: Policy,
    sink: Callable[[str, bytes], None],
) -> Compressed:
    """Make a model smaller, and say what it costs.

    Args:
        call: which form, what the samples are, whether to hand the file over.
        material: the files.
        folder: writable, for the pin.
        policy: what the static gate lets through.
        sink: takes the smaller file, if it was asked for.

    Raises:
        ModelRefused: the gate, the runtime or the form refuses the model.
        InputMismatch: the samples do not fit it.
        OutOfMemory: more memory than this process may have.
    """
    model = scan(material.raw, policy)
    small = compress.compress(model, call.form).SerializeToString(deterministic=True)
    touching = compress.rows_touch(scan(small, policy).graph)
    sample, before, after = measure.Sample(), measure.Outcome(), measure.Outcome()
    if call.is_measured:
        base = load(pin(material.raw, folder))
        sample = _sample(call, material, base, model.graph)
        before = measure.run(base, sample)
        del base
        after = measure.run(load(pin(small, folder)), sample)
    if call.is_wanted:
        sink(FILE, small)
    return Compressed(
        call.form,
        len(material.raw),
        len(small),
        hashlib.sha256(small).digest(),
        before.cpu_us,
        after.cpu_us,
        before.row_cpu_us,
        after.row_cpu_us,
        touching,
        measure.compare(sample, before, after) if call.is_measured else (),
    )


def _sample(
    call: Compress, material: Material, model: Model, graph: onnx.GraphProto
) -> measure.Sample:
    match call.samples:
        case Samples.SLICES if material.samples is not None:
            return measure.of_slices(material.samples)
        case Samples.TEXTS if material.samples is not None:
            if material.tokenizer is None:
                raise ModelRefused("texts need a tokenizer to be compared on")
            tokenizer = text.load(material.tokenizer)
            return measure.of_texts(material.samples, tokenizer, model)
        case _:
            rows = golden.make_inputs(graph, golden.free_axes(graph, golden.SIZES))
            return measure.Sample((rows,))
