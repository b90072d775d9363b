"""Prepare a raw model: scan, pin, cut, and prove that every split equals the whole bit for bit.

Runs in a sealed child with one writable directory, which only the pin needs. Results leave as
bytes through `Sink`; which file they become is the daemon's business.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from onnx import helper

from prsm.node.worker import compress, golden, partition
from prsm.node.worker.optimise import pin
from prsm.node.worker.partition import Stage
from prsm.node.worker.pipe import Array
from prsm.node.worker.scan import Policy, scan
from prsm.node.worker.session import (
    OPTIONS,
    RUNTIME,
    Compute,
    Model,
    check_finite,
    load,
    run_options,
)
from prsm.protocol.limits import WORK_STAGES_MAX
from prsm.protocol.messages.models import ROWS_TOUCHING
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


@dataclass(slots=True)
class _Pinned:
    """A pinned graph on its way into stages."""

    raw: bytes
    model: onnx.ModelProto
    cuts: list[partition.Cut]
    end: partition.Cut
    rows: _Sets
    whole: _Sets  # outputs of the uncut graph
    boundaries: dict[str, onnx.ValueInfoProto]


class Preparation:
    """One model's way from raw file to checked shards."""

    def __init__(self, policy: Policy, compute: Compute, sink: Sink) -> None:
        self._policy = policy
        self._compute = compute
        self._sink = sink
        self._sent: dict[bytes, str] = {}
        self._is_half = False

    def run(self, raw: bytes, folder: Path, stages: Sequence[int]) -> PreparedModel:
        """Prepare a model for each asked count of stages, and for one.

        Args:
            raw: the model file.
            folder: writable, for the pin.
            stages: counts of stages; 1 is always added.

        Raises:
            ModelRefused: the gate, the runtime or the equality check refuses the model.
            NoCut: a count that the graph has no cuts for.
            OutOfMemory: more memory than this process may have.
        """
        self._is_half = compress.has_halves(scan(raw, self._policy).graph)
        pinned = pin(raw, folder)
        raw_sha256 = hashlib.sha256(raw).digest()
        del raw
        model = scan(pinned, self._policy)
        cuts, end = partition.find_cuts(model.graph)
        counts = sorted({1, *stages})
        plans = {count: partition.choose(cuts, end, count) for count in counts}
        if sum(counts) > PREPARED_SHARDS_MAX:
            raise NoCut(f"{sum(counts)} shards altogether, at most {PREPARED_SHARDS_MAX}")
        job = _Pinned(pinned, model, cuts, end, _golden_rows(model.graph), ({}, {}), {})
        job.whole = self._run_whole(job)
        self._observe_boundaries(job, {cut.tensor for plan in plans.values() for cut in plan})
        shards = [shard for count in counts for shard in self._split(job, plans[count])]
        return PreparedModel(
            tuple(shards),
            RUNTIME,
            f"{OPTIONS}; {ROWS_TOUCHING}" if compress.rows_touch(model.graph) else OPTIONS,
            raw_sha256,
            hashlib.sha256(pinned).digest(),
            min(len(cuts) + 1, WORK_STAGES_MAX),
        )

    def _run_whole(self, job: _Pinned) -> _Sets:
        whole = load(job.raw)
        return self._run(whole, job.rows[0]), self._run(whole, job.rows[1])

    def _observe_boundaries(self, job: _Pinned, tensors: set[str]) -> None:
        """Declare the cut tensors: run once with all of them as outputs, look at what comes."""
        if not tensors:
            return
        names = sorted(tensors - {value.name for value in job.model.graph.output})
        probe = onnx.ModelProto()
        probe.CopyFrom(job.model)
        probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
        session = load(probe.SerializeToString()).session
        del probe
        seen = [session.run(names, rows, run_options()) for rows in job.rows]
        axes = {
            (here, there): name
            for name, here in golden.free_axes(job.model.graph, golden.SIZES).items()
            for other, there in golden.free_axes(job.model.graph, golden.OTHER_SIZES).items()
            if other == name
        }
        for name, first, second in zip(names, *seen, strict=True):
            shape = [
                here if here == there else axes.get((here, there), f"{name}.{place}"[-64:])
                for place, (here, there) in enumerate(zip(first.shape, second.shape, strict=True))
            ]
            dtype = helper.np_dtype_to_tensor_dtype(np.dtype(first.dtype))
            job.boundaries[name] = helper.make_tensor_value_info(name, dtype, shape)

    def _split(self, job: _Pinned, chosen: Sequence[partition.Cut]) -> list[PreparedShard]:
        """Extract, load and run each stage on what the stage before made; compare the ends."""
        stages = partition.stages_of(job.model.graph, chosen, job.end)
        values: _Sets = (dict(job.rows[0]), dict(job.rows[1]))
        shards = []
        for stage in stages:
            shard = self._shard_bytes(job, stage, len(stages))
            model = load(shard)
            feeds: _Sets = (_feeds(model, values[0]), _feeds(model, values[1]))
            for known, rows in zip(values, feeds, strict=True):
                known.update(self._run(model, rows))
            name = WHOLE if len(stages) == 1 else f"stage-{len(stages)}-{stage.index}.onnx"
            shards.append(
                PreparedShard(
                    len(stages),
                    stage.index,
                    self._send(name, self._stored(shard)),
                    self._send(f"golden-{len(stages)}-{stage.index}.bin", golden.save(feeds[0])),
                    model.inputs,
                    model.outputs,
                    stage.flops,
                    stage.weight_bytes,
                    (),
                )
            )
        _require_equal(job.whole, values, len(stages))
        return shards

    def _shard_bytes(self, job: _Pinned, stage: Stage, count: int) -> bytes:
        if count == 1:
            return job.raw
        shard = partition.extract(job.model, stage, job.boundaries)
        return bytes(shard.SerializeToString(deterministic=True))

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


def _golden_rows(graph: onnx.GraphProto) -> _Sets:
    return (
        golden.make_inputs(graph, golden.free_axes(graph, golden.SIZES)),
        golden.make_inputs(graph, golden.free_axes(graph, golden.OTHER_SIZES)),
    )


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
