"""Keys of provable entries: fixed ones by length, named ones by their text."""

import pytest

from prsm.consensus.ledger import records, releases
from prsm.node.api.provable import state_key
from prsm.node.rpc.methods.chain import ProofKind, ProofParams
from prsm.protocol.errors import LocalError

ID = "0x" + "11" * 32
CID = "0x" + "11" * 36


@pytest.mark.parametrize(
    ("kind", "key", "entry"),
    [
        ("account", ID, records.account_key(b"\x11" * 32, 0)),
        ("validator", ID, records.bond_key(b"\x11" * 32)),
        ("escrow", ID, records.job_key(b"\x11" * 32)),
        ("hold", ID, records.held_key(b"\x11" * 32)),
        ("model", CID, records.model_key(b"\x11" * 36)),
        ("dataset", CID, releases.dataset_key(b"\x11" * 36)),
        ("card", CID, releases.card_key(b"\x11" * 36)),
        ("version", "0x" + b"m@1.0.0".hex(), records.version_key("m", "1.0.0")),
        ("yank", "0x" + b"m@1.0.0".hex(), releases.yanked_key("m", "1.0.0")),
        ("versions", "0x" + b"m".hex(), releases.versions_key("m")),
        ("channels", "0x" + b"m".hex(), releases.channels_key("m")),
    ],
)
def test_key_of_each_kind(kind: ProofKind, key: str, entry: bytes) -> None:
    assert state_key(ProofParams(kind=kind, key=key)) == entry


@pytest.mark.parametrize(
    "params",
    [
        ProofParams(kind="model", key=ID),
        ProofParams(kind="hold", key=CID),
        ProofParams(kind="account", key=ID, asset=2**32),
        ProofParams(kind="channels", key="0xff"),
        ProofParams(kind="version", key="0xz"),
    ],
)
def test_key_of_another_shape_is_refused(params: ProofParams) -> None:
    with pytest.raises(LocalError):
        state_key(params)
