"""One onnxruntime session under the fixed options of a determinism class.

Knows how to load from bytes, check inputs against the graph's io table, run, and name what went
wrong. Must not know pipes or files. Options never vary: the same bits come out on every machine
of a class (docs/spec/work.md, "Determinism and sandbox"; rules R1 to R3).
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import onnxruntime as ort

from prsm.node.worker.pipe import NUMPY, Array, write_arrays
from prsm.protocol.codec import encode
from prsm.protocol.errors import LocalError
from prsm.protocol.messages.models import TensorSpec
from prsm.protocol.messages.pipe import Cancelled, InputMismatch, ModelRefused, OutOfMemory
from prsm.protocol.tensors import Dtype

RUNTIME: Final = f"onnxruntime {ort.__version__}"
# Part of the class id: a changed option is another class.
OPTIONS: Final = "cpu; disable_all; sequential; intra=1; inter=1; arena=1; pattern=1; prepack=1"
_FATAL: Final = 4
_NO_MEMORY: Final = re.compile(
    r"bad_?\s?alloc|failed to allocate|out of memory|not enough memory", re.IGNORECASE
)
_TYPE_NAMES: Final = {
    "tensor(float)": Dtype.F32,
    "tensor(float16)": Dtype.F16,
    "tensor(int64)": Dtype.I64,
    "tensor(int32)": Dtype.I32,
    "tensor(uint8)": Dtype.U8,
    "tensor(int8)": Dtype.I8,
    "tensor(bool)": Dtype.BOOL,
}


@dataclass(frozen=True, slots=True)
class Model:
    """A loaded graph and its io table."""

    session: ort.InferenceSession
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


RunOptions: TypeAlias = ort.RunOptions
Compute = Callable[[Model, Mapping[str, Array], RunOptions], dict[str, Array]]


def session_options(*, is_pinning: bool = False) -> ort.SessionOptions:
    """Return the fixed options: one thread, CPU; no optimisation unless the graph is pinned."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.enable_cpu_mem_arena = True
    options.enable_mem_pattern = True
    options.log_severity_level = _FATAL
    level = ort.GraphOptimizationLevel
    # ENABLE_ALL may store layouts of this CPU in the pinned file.
    options.graph_optimization_level = (
        level.ORT_ENABLE_EXTENDED if is_pinning else level.ORT_DISABLE_ALL
    )
    return options


def run_options(*, is_shrinking: bool = False) -> RunOptions:
    """Return options of one run; setting `terminate` on them ends it between two operators.

    Args:
        is_shrinking: give unused arena memory back after the run; changes no bits.
    """
    options = ort.RunOptions()
    options.log_severity_level = _FATAL
    if is_shrinking:
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


def load(
    raw: bytes,
    *,
    options: ort.SessionOptions | None = None,
    beside: Mapping[str, memoryview] | None = None,
    providers: Sequence[object] = ("CPUExecutionProvider",),
) -> Model:
    """Make a session from the bytes of a scanned graph.

    Args:
        raw: the graph.
        options: other than those of a run.
        beside: content of the files its weights lie in; copied, not needed afterwards.
        providers: who computes, as the runtime names them (`provider`).

    Raises:
        ModelRefused: the runtime does not accept the graph.
        OutOfMemory: loading needs more memory than this process may have.
    """
    options = options or session_options()
    # The runtime's errors share no base class, hence `Exception` here and in `compute`.
    try:
        if beside:
            files = list(beside.values())
            options.add_external_initializers_from_files_in_memory(
                list(beside), files, [len(data) for data in files]
            )
        session = ort.InferenceSession(raw, options, providers=list(providers))
    except Exception as error:
        raise _typed(error, ModelRefused, "the runtime refuses the graph") from error
    # The wrapper keeps the bytes for a change of provider, which never comes: 90 MB of MiniLM.
    session._model_bytes = None  # noqa: SLF001 - no public way to drop them
    return Model(session, _specs(session.get_inputs()), _specs(session.get_outputs()))


def compute(model: Model, feeds: Mapping[str, Array], options: RunOptions) -> dict[str, Array]:
    """Run the graph: outputs by name, in the graph's order.

    Raises:
        InputMismatch: an operator refuses a value, such as an index out of its range.
        OutOfMemory: the run needs more memory than this process may have.
        Cancelled: `options.terminate` was set meanwhile.
    """
    names = [spec.name for spec in model.outputs]
    try:
        results = model.session.run(names, dict(feeds), options)
    except Exception as error:
        if options.terminate:
            raise Cancelled("the run was ended by its caller") from error
        raise _typed(error, InputMismatch, "the graph refuses these inputs") from error
    return dict(zip(names, results, strict=True))


def check_inputs(model: Model, feeds: Mapping[str, Array]) -> None:
    """Check names, dtypes, shapes and finiteness before the runtime sees an array.

    Raises:
        InputMismatch: what differs from the io table.
    """
    known = {spec.name: spec for spec in model.inputs}
    listed = ", ".join(known)
    for name in feeds:
        if name not in known:
            raise InputMismatch(f"unknown input {name!r}; the graph takes {listed}")
    axes: dict[str, int] = {}
    for name, spec in known.items():
        if name not in feeds:
            raise InputMismatch(f"input {name!r} is missing; the graph takes {listed}")
        _check_input(spec, feeds[name], axes)
    check_finite(feeds)


def check_finite(arrays: Mapping[str, Array]) -> None:
    """Refuse NaN and infinity in a float boundary.

    Raises:
        InputMismatch: names the tensor.
    """
    for name, array in arrays.items():
        # The extremes carry NaN and both infinities, and need no temporary array.
        if array.dtype.kind != "f" or not array.size:
            continue
        if not (np.isfinite(array.min()) and np.isfinite(array.max())):
            raise InputMismatch(f"tensor {name!r} holds NaN or infinity")


def output_root(outputs: Mapping[str, Array]) -> bytes:
    """Return the digest of outputs: sha256 over names, dtypes, shapes and raw bytes."""
    heads, buffers = write_arrays(outputs)
    digest = hashlib.sha256(b"prsm/golden/1")
    for head, buffer in zip(heads, buffers, strict=True):
        digest.update(encode(head))
        digest.update(buffer)
    return digest.digest()


def _check_input(spec: TensorSpec, array: Array, axes: dict[str, int]) -> None:
    wanted = NUMPY[spec.dtype]
    if array.dtype != wanted:
        raise InputMismatch(f"input {spec.name!r} is {array.dtype}, the graph takes {wanted}")
    shape = list(array.shape)
    takes = f"the graph takes {list(spec.shape)}"
    if len(shape) != len(spec.shape):
        raise InputMismatch(f"input {spec.name!r} has shape {shape}, {takes}")
    for size, axis in zip(shape, spec.shape, strict=True):
        if isinstance(axis, str):
            bound = axes.setdefault(axis, size)
            if bound != size:
                raise InputMismatch(
                    f"input {spec.name!r} has {axis} = {size}, another input has {bound}"
                )
        elif size != axis:
            raise InputMismatch(f"input {spec.name!r} has shape {shape}, {takes}")


def _specs(values: list[ort.NodeArg]) -> tuple[TensorSpec, ...]:
    specs = []
    for value in values:
        dtype = _TYPE_NAMES.get(value.type)
        if dtype is None:
            raise ModelRefused(f"{value.name!r} is {value.type}; no boundary carries that")
        axes = [
            dim if isinstance(dim, int) else str(dim or f"{value.name}.{place}")[:64]
            for place, dim in enumerate(value.shape)
        ]
        specs.append(TensorSpec(value.name, dtype, tuple(axes)))
    return tuple(specs)


def _typed(error: Exception, otherwise: type[LocalError], what: str) -> LocalError:
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or _NO_MEMORY.search(text):
        return OutOfMemory(f"not enough memory: {text[:300]}")
    return otherwise(f"{what}: {text[:300]}")
