"""Prepare a raw model: scan, pin, cut, and prove that every split equals the whole bit for bit.

Runs in a sealed child with one writable directory, which only the pin needs. Results leave as
bytes through `Sink`; which file they become is the daemon's business.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from onnx import helper

from prsm.node.worker import beside, compress, golden, partition
from prsm.node.worker.beside import Beside
from prsm.node.worker.files import write_mapped
from prsm.node.worker.optimise import drop_weights, pin, pin_apart
from prsm.node.worker.partition import Stage
from prsm.node.worker.pipe import NUMPY, Array
from prsm.node.worker.scan import Policy, scan
from prsm.node.worker.session import (
    RUNTIME,
    Compute,
    Model,
    check_finite,
    load,
    run_options,
)
from prsm.protocol.limits import WEIGHTS_INSIDE_BYTES_MAX, WORK_STAGES_MAX
from prsm.protocol.messages.models import TensorSpec
from prsm.protocol.messages.pipe import (
    PREPARED_SHARDS_MAX,
    InputMismatch,
    ModelRefused,
    NoCut,
    PreparedModel,
    PreparedShard,
)

Sink = Callable[[str, bytes], None]
_Rows = dict[str, Array]
# Two sets of rows: the first is kept with the shards, the second tells free axes from fixed ones.
_Sets = tuple[_Rows, _Rows]
WHOLE: Final = "pinned.onnx"
_PROBES_MAX: Final = 16  # outputs looked at in one run: each stays in memory
_CARRIED: Final = frozenset(NUMPY.values())
_NOTHING: Final[Beside] = {}


@dataclass(frozen=True, slots=True)
class _Io:
    """What a graph takes and gives."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(slots=True)
class _Pinned:
    """A pinned graph on its way into stages."""

    raw: bytes
    model: onnx.ModelProto
    beside: Beside  # files its weights lie in, by the name it gives them
    files: dict[str, str]  # the same names -> names of those files for the daemon
    rows: _Sets
    axes: tuple[golden.Axes, golden.Axes]
    whole: _Sets  # outputs of the uncut graph
    io: _Io
    end: partition.Cut
    boundaries: dict[str, onnx.ValueInfoProto] = field(default_factory=dict)
    cuts: list[partition.Cut] = field(default_factory=list)

    def load(self, raw: bytes, graph: onnx.GraphProto) -> Model:
        """Load this graph or a stage of it."""
        return load(raw, beside=beside.used_by(graph, self.beside))


class Preparation:
    """One model's way from raw file to checked shards.

    Args:
        policy: what the gate lets through.
        compute: what checks the splits.
        sink: takes each file as it is made.
        inside_bytes_max: weights above this stay beside the graph.
    """

    def __init__(
        self,
        policy: Policy,
        compute: Compute,
        sink: Sink,
        *,
        inside_bytes_max: int = WEIGHTS_INSIDE_BYTES_MAX,
    ) -> None:
        self._policy = policy
        self._compute = compute
        self._sink = sink
        self._inside_bytes_max = inside_bytes_max
        self._sent: dict[bytes, str] = {}
        self._is_half = False

    def run(
        self,
        raw: bytes,
        folder: Path,
        stages: Sequence[int],
        sides: dict[str, memoryview] | None = None,
    ) -> PreparedModel:
        """Prepare a model for each asked count of stages, and for one.

        A graph without any cut is prepared whole, whatever was asked: it can still run in replicas.

        Args:
            raw: the model file.
            folder: writable, for the pin.
            stages: counts of stages; 1 is always added.
            sides: the files its weights lie in, by the name it gives them; emptied when they are
                no longer needed, for each takes address space.

        Raises:
            ModelRefused: the gate, the runtime or the equality check refuses the model.
            NoCut: a count that the graph has no cuts for, though it has some.
            OutOfMemory: more memory than this process may have.
        """
        raw_sha256 = hashlib.sha256(raw).digest()
        job = self._pin(raw, folder, {} if sides is None else sides)
        del raw
        job.cuts, job.end = partition.find_cuts(job.model.graph, self._positions(job))
        plans = self._choose(job, stages)
        shards = [shard for count in sorted(plans) for shard in self._split(job, plans[count])]
        return PreparedModel(
            tuple(shards),
            RUNTIME,
            compress.options_of(job.model.graph),
            raw_sha256,
            hashlib.sha256(job.raw).digest(),
            min(len(job.cuts) + 1, WORK_STAGES_MAX),
        )

    def _pin(self, raw: bytes, folder: Path, sides: dict[str, memoryview]) -> _Pinned:
        model = scan(raw, self._policy, sides, is_raw=True)
        if sum(map(beside.size_of, model.graph.initializer)) > self._inside_bytes_max:
            del model
            pinned, here = pin_apart(raw, folder, sides)
            sides.clear()
            model = scan(pinned, self._policy, here)
            given, files = self._lay_out(model, here, folder)
            del here
            drop_weights(folder)
            pinned = model.SerializeToString(deterministic=True)
        else:
            if sides:
                beside.move_inside(model, sides)
                sides.clear()
                raw = model.SerializeToString()
            self._is_half = compress.has_halves(model.graph)
            del model
            pinned, given, files = pin(raw, folder), _NOTHING, {}
        model = scan(pinned, self._policy, given)
        whole = load(pinned, beside=given)
        axes, rows, outputs = self._first_that_runs(model.graph, whole)
        io = _Io(whole.inputs, whole.outputs)
        return _Pinned(pinned, model, given, files, rows, axes, outputs, io, partition.START)

    def _lay_out(
        self, model: onnx.ModelProto, here: Beside, folder: Path
    ) -> tuple[Beside, dict[str, str]]:
        """Write the weights into files of our own layout, send them, and map them."""
        given, files = {}, {}
        for file in beside.lay_out(model, here):
            data = write_mapped(folder / file.name, file.parts)
            given[file.digest], files[file.digest] = data, file.name
            self._sink(file.name, bytes(data))
        return given, files

    def _first_that_runs(
        self, graph: onnx.GraphProto, whole: Model
    ) -> tuple[tuple[golden.Axes, golden.Axes], _Sets, _Sets]:
        first: ModelRefused | None = None
        for axes in golden.layouts(graph):
            rows = golden.make_inputs(graph, axes[0]), golden.make_inputs(graph, axes[1])
            try:
                return axes, rows, (self._run(whole, rows[0]), self._run(whole, rows[1]))
            except ModelRefused as error:
                first = first or error
        assert first is not None, "there is always one layout"
        raise first

    def _positions(self, job: _Pinned) -> dict[str, int]:
        """At how many places of one row each convolution uses its weights."""
        names = [n.output[0] for n in job.model.graph.node if n.op_type in partition.CONVOLUTIONS]
        return {name: math.prod(second.shape[2:]) for name, _, second in self._observe(job, names)}

    def _observe(self, job: _Pinned, names: Sequence[str]) -> Iterator[tuple[str, Array, Array]]:
        """Yield tensors of the graph as they are on both sets of rows."""
        if not names:
            return
        declared = {value.name for value in job.model.graph.output}
        probe = onnx.ModelProto()
        probe.CopyFrom(job.model)
        probe.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in declared)
        session = job.load(probe.SerializeToString(), probe.graph).session
        for start in range(0, len(names), _PROBES_MAX):
            few = list(names[start : start + _PROBES_MAX])
            seen = [session.run(few, rows, run_options()) for rows in job.rows]
            yield from zip(few, *seen, strict=True)

    def _choose(self, job: _Pinned, stages: Sequence[int]) -> dict[int, list[partition.Cut]]:
        """Choose cuts whose tensors can cross a boundary; declare those tensors."""
        early = partition.first_output(job.model.graph)
        while True:
            counts = {1, *stages} if job.cuts else {1}
            if sum(counts) > PREPARED_SHARDS_MAX:
                raise NoCut(f"{sum(counts)} shards altogether, at most {PREPARED_SHARDS_MAX}")
            plans = {k: partition.choose(job.cuts, job.end, k, early=early) for k in counts}
            wanted = {cut.tensor for plan in plans.values() for cut in plan} - set(job.boundaries)
            bad = self._declare(job, sorted(wanted))
            if not bad:
                return plans
            job.cuts = [cut for cut in job.cuts if cut.tensor not in bad]

    def _declare(self, job: _Pinned, names: Sequence[str]) -> set[str]:
        """Declare tensors as they were observed; return those that cannot cross a boundary."""
        bad = set()
        axes = {
            (here, there): name
            for name, here in job.axes[0].items()
            for other, there in job.axes[1].items()
            if other == name
        }
        for name, first, second in self._observe(job, names):
            if first.dtype not in _CARRIED or not (_is_finite(first) and _is_finite(second)):
                bad.add(name)
                continue
            shape = [
                here if here == there else axes.get((here, there), f"{name}.{place}"[-64:])
                for place, (here, there) in enumerate(zip(first.shape, second.shape, strict=True))
            ]
            dtype = helper.np_dtype_to_tensor_dtype(np.dtype(first.dtype))
            job.boundaries[name] = helper.make_tensor_value_info(name, dtype, shape)
        return bad

    def _split(self, job: _Pinned, chosen: Sequence[partition.Cut]) -> list[PreparedShard]:
        """Extract, load and run each stage on what the stage before made; compare the ends."""
        stages = partition.stages_of(job.model.graph, chosen, job.end)
        values: _Sets = (dict(job.rows[0]), dict(job.rows[1]))
        shards = []
        for stage in stages:
            graph = self._stage_graph(job, stage, len(stages))
            shard = (
                job.raw if len(stages) == 1 else bytes(graph.SerializeToString(deterministic=True))
            )
            io = job.io if len(stages) == 1 else self._add_stage(job, shard, graph.graph, values)
            feeds = {spec.name: values[0][spec.name] for spec in io.inputs}
            name = WHOLE if len(stages) == 1 else f"stage-{len(stages)}-{stage.index}.onnx"
            shards.append(
                PreparedShard(
                    len(stages),
                    stage.index,
                    self._send(name, self._stored(shard)),
                    self._send(f"golden-{len(stages)}-{stage.index}.bin", golden.save(feeds)),
                    io.inputs,
                    io.outputs,
                    stage.flops,
                    stage.weight_bytes,
                    tuple(job.files[name] for name in beside.used_by(graph.graph, job.beside)),
                )
            )
        if len(stages) > 1:
            _require_equal(job.whole, values, len(stages))
        return shards

    def _add_stage(self, job: _Pinned, shard: bytes, graph: onnx.GraphProto, values: _Sets) -> _Io:
        """Run a stage on what is there, and add what it makes."""
        model = job.load(shard, graph)
        for known in values:
            known.update(self._run(model, _feeds(model, known)))
        return _Io(model.inputs, model.outputs)

    def _stage_graph(self, job: _Pinned, stage: Stage, count: int) -> onnx.ModelProto:
        return job.model if count == 1 else partition.extract(job.model, stage, job.boundaries)

    def _stored(self, shard: bytes) -> bytes:
        """The shard as it is kept: with weights in fp16 if the raw model had them so.

        Nothing is lost: the pin folded the Cast of each such weight, so its fp32 values are fp16's.
        """
        if not self._is_half:
            return shard
        small = compress.narrowed(onnx.ModelProto.FromString(shard))
        return bytes(small.SerializeToString(deterministic=True))

    def _run(self, model: Model, rows: _Rows) -> _Rows:
        try:
            outputs = self._compute(model, rows, run_options())
            check_finite(outputs)
        except InputMismatch as error:
            raise ModelRefused(f"the golden rows do not run: {error.what}") from error
        return outputs

    def _send(self, name: str, data: bytes) -> str:
        """Send a file unless its bytes were sent; return the name it has."""
        digest = hashlib.sha256(data).digest()
        if digest not in self._sent:
            self._sink(name, data)
            self._sent[digest] = name
        return self._sent[digest]


def _is_finite(array: Array) -> bool:
    try:
        check_finite({"": array})
    except InputMismatch:
        return False
    return True


def _feeds(model: Model, values: _Rows) -> _Rows:
    missing = [spec.name for spec in model.inputs if spec.name not in values]
    if missing:
        raise ModelRefused(f"a stage needs {missing[0]!r}, which no stage before it makes")
    return {spec.name: values[spec.name] for spec in model.inputs}


def _require_equal(whole: _Sets, chained: _Sets, count: int) -> None:
    for expected, found in zip(whole, chained, strict=True):
        for name, array in expected.items():
            same = array.shape == found[name].shape and array.dtype == found[name].dtype
            if not same or array.tobytes() != found[name].tobytes():
                raise ModelRefused(f"{count} stages give other bits than the whole in {name!r}")
