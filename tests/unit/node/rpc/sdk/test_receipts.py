"""Receipts as files, and their check by the program that trusts nobody."""

import stat
from pathlib import Path

import pytest

from prsm.client import Proof, errors, proof_from


def test_a_receipt_is_kept_as_it_was_and_private(tmp_path: Path) -> None:
    path = Proof(b'{"job": 1}').save(tmp_path / "receipt.json")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert proof_from(path).document == b'{"job": 1}'


def test_a_check_needs_a_beginning_of_trust(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing to trust"):
        Proof(b"{}").verify()
    with pytest.raises(ValueError, match="nothing to trust"):
        Proof(b"{}", genesis=tmp_path / "absent.json").verify()


@pytest.mark.parametrize("document", [b"", b"{}", b"[]", b"\xff", b'{"version": 1}'])
def test_what_proves_nothing_is_refused(document: bytes) -> None:
    with pytest.raises(errors.BadReceipt, match="refused") as caught:
        Proof(document).verify(validators="0:0x" + "00" * 32)
    assert caught.value.exit_code == 6
