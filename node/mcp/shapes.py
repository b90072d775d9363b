"""Answers of the node made short: what a model that calls tools can use.

Knows: result documents. Must not know: how they are asked for.
"""

import struct
from collections.abc import Iterable, Mapping
from math import prod
from typing import Any, Final

VALUES_MAX: Final = 4096  # numbers of one answer; more are left out, and it says so
_FORMATS: Final = {"f32": "f", "i32": "i", "i64": "q", "u8": "B", "i8": "b", "bool": "?"}
_STATUS: Final = (
    *("name", "version", "state", "network", "chain_id", "peer_id", "peers", "height"),
    *("wallet", "wallet_unlocked", "jobs_running", "models", "offline", "stale"),
)
_MODEL: Final = ("ref", "cid", "state", "size_bytes", "stages", "registered", "sealed", "created")
_JOB: Final = (
    *("job_id", "model", "state", "rows", "rows_done", "created", "is_over", "locked", "paid"),
    *("refunded", "run_ms", "settled_heights", "because", "error"),
)
_WORKER: Final = ("peer_id", "stage", "role", "rows", "verdict", "why", "paid")

# Documents of the node; their fields are those of the method table.
Raw = Mapping[str, Any]


def status(raw: Raw) -> dict[str, object]:
    """A node's state."""
    return _some(raw, _STATUS)


def models(raw: Raw) -> dict[str, object]:
    """Models, one line each."""
    return {"items": [_some(item, _MODEL) for item in raw["items"] if item["stages"]]}


def job(raw: Raw) -> dict[str, object]:
    """A job and its workers."""
    workers = [_some(worker, _WORKER) for worker in raw["workers"]]
    return {**_some(raw, _JOB), "workers": workers}


def outputs(raw: Raw) -> list[dict[str, object]]:
    """Tensors with their numbers, as long as these are few."""
    return [_tensor(one) for one in raw["outputs"]]


def _tensor(raw: Raw) -> dict[str, object]:
    head: dict[str, object] = _some(raw, ("name", "dtype", "shape"))
    form = _FORMATS.get(raw["dtype"])
    count = prod(raw["shape"])
    if form is None or count > VALUES_MAX:
        return {**head, "values": None, "left_out": count}
    numbers = struct.unpack(f"<{count}{form}", bytes.fromhex(raw["data"][2:]))
    return {**head, "values": _nested(numbers, raw["shape"])}


def _nested(numbers: tuple[Any, ...], shape: list[int]) -> object:
    if len(shape) < 2:
        return list(numbers)
    step = prod(shape[1:])
    rows = [numbers[start : start + step] for start in range(0, len(numbers), step or 1)]
    return [_nested(row, shape[1:]) for row in rows]


def _some(raw: Raw, names: Iterable[str]) -> dict[str, object]:
    return {name: raw[name] for name in names if name in raw}
