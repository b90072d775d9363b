"""Work receipts: what the signature covers, and what the root of rows distinguishes."""

import msgspec
import pytest

from prsm.protocol.ed25519 import Ed25519Verifier
from prsm.protocol.merkle import EMPTY_ROOT
from prsm.protocol.receipts import WorkReceipt, is_signed, receipt_hash, rows_root, sign_receipt
from prsm.protocol.tensors import Dtype, TensorHead
from prsm.testnet.chain import Chain, signer_of, small_genesis
from prsm.testnet.jobs import Work, lock_of


@pytest.fixture(scope="module")
def receipt() -> WorkReceipt:
    return Work(65).receipt(Chain(small_genesis()), lock_of())


def test_signature_covers_every_field(receipt: WorkReceipt) -> None:
    assert is_signed(receipt, Ed25519Verifier())
    changes: dict[str, object] = {
        "chain_id": b"x" * 8,
        "job": b"x" * 32,
        "unit": 9,
        "kind": 2,
        "worker": signer_of(66).public_key,
        "model": b"x" * 36,
        "stages": 9,
        "stage": 9,
        "class_id": b"x" * 32,
        "batches": receipt.batches[1:],
        "measured": msgspec.structs.replace(receipt.measured, cpu_ms=8),
        "price_per_row": 9,
        "started_height": 9,
        "ended_height": 9,
        "version": 3,
    }
    assert set(changes) == set(WorkReceipt.__struct_fields__) - {"signature"}
    for name, value in changes.items():
        changed = msgspec.structs.replace(receipt, **{name: value})
        assert not is_signed(changed, Ed25519Verifier()), name
        assert receipt_hash(changed) != receipt_hash(receipt)


def test_only_the_worker_signs(receipt: WorkReceipt) -> None:
    with pytest.raises(AssertionError):
        sign_receipt(receipt, signer_of(66))


def head(*shape: int, dtype: Dtype = Dtype.F32) -> TensorHead:
    return TensorHead(name="h", dtype=dtype, shape=shape)


def test_rows_root_sees_bytes_order_shape_and_dtype() -> None:
    data = bytes(range(32))
    roots = {
        rows_root(head(2, 4), data),
        rows_root(head(2, 2, 2), data),
        rows_root(head(4, 2), data),
        rows_root(head(2, 4, dtype=Dtype.I32), data),
        rows_root(head(2, 4), data[16:] + data[:16]),
        rows_root(head(2, 4), data[:-1] + b"\x00"),
    }
    assert len(roots) == 6
    assert rows_root(head(2, 4), data) == rows_root(head(2, 4), bytes(data))


def test_rows_root_of_no_rows_and_of_a_scalar() -> None:
    assert rows_root(head(0, 4), b"") == EMPTY_ROOT
    assert rows_root(head(), bytes(4)) != EMPTY_ROOT
