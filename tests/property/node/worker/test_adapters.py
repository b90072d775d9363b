"""Adapters are a stranger's bytes: whatever they are, they read or are refused with one type."""

from typing import Final

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from prsm.node.worker import lora
from prsm.protocol.messages.pipe import InputMismatch

_GOOD: Final = save(
    {"w.lora_a": np.ones((8, 2), np.float32), "w.lora_b": np.ones((2, 8), np.float32)}
)


def _read(raw: bytes) -> None:
    try:
        arrays = lora.read(raw)
    except InputMismatch:
        return
    assert all(array.dtype == np.float32 and array.ndim == 2 for array in arrays.values())
    assert all(np.isfinite(array).all() for array in arrays.values())


@settings(max_examples=40)
@given(st.binary(max_size=200))
def test_any_bytes_are_refused_in_one_way(raw: bytes) -> None:
    _read(raw)


@settings(max_examples=40)
@given(st.data())
def test_changed_adapter_reads_or_is_refused(data: st.DataObject) -> None:
    """Goal: no crash and no odd array. Method: bytes of a good one overwritten, cut, doubled."""
    raw = bytearray(_GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(raw) - 1))
        raw[place] = data.draw(st.sampled_from([*b'0123456789[]{},:"FIU', 0, 255]))
    end = data.draw(st.integers(0, len(raw)))
    _read(bytes(raw) if data.draw(st.booleans()) else bytes(raw[:end]))
