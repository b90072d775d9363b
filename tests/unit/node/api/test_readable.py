"""Records in JSON and back; what is none of them is refused with the place of the fault."""

import json

import msgspec
import pytest

from prsm.node.api.readable import BadDocument, readable_record, record_of
from prsm.protocol.codec import Record
from prsm.protocol.messages.consensus import SignedMessage
from prsm.protocol.signing import Kind
from prsm.protocol.transactions.conditions import (
    After,
    AtLeast,
    Branch,
    Fallback,
    HashLock,
    Hold,
    Signers,
    Vesting,
)
from prsm.protocol.transactions.payloads import Evidence, Halt, Transfer

_KEY = bytes(range(32))
_VOTE = SignedMessage(Kind.COMMIT, 0, 5, 1, _KEY, 2, bytes(64))
_HOLD = Hold(
    salt=bytes(32),
    asset=0,
    amount=2**60,
    branches=(
        Branch(
            to=_KEY,
            condition=AtLeast(1, (After(7), HashLock(_KEY), Signers(1, (_KEY,)))),
            vesting=Vesting(1, 2, 3),
        ),
        Branch(to=_KEY, condition=After(9), vesting=None),
    ),
    fallback=Fallback(10, _KEY),
)


@pytest.mark.parametrize(
    "record",
    [
        Transfer(asset=0, to=_KEY, amount=5, memo=b"x"),
        Halt(cid=b"\x01\x55\x12\x20" + bytes(32), lift=False, reason="bad"),
        Evidence(first=_VOTE, second=_VOTE),
        _HOLD,
        msgspec.structs.replace(_HOLD, fallback=None),
    ],
    ids=lambda record: type(record).__name__,
)
def test_what_is_written_is_read_again(record: Record) -> None:
    document = json.loads(json.dumps(readable_record(record)))
    assert record_of(document, type(record)) == record


@pytest.mark.parametrize(
    ("document", "what"),
    [
        ([], "Transfer: an object belongs here"),
        ({"asset": 0}, "Transfer: fields unknown or missing: amount, memo, to"),
        ({"colour": 1}, "colour"),
        ({"to": "12"}, "Transfer.to: 0x and pairs of hex digits belong here"),
        ({"to": "0x1"}, "Transfer.to: 0x and pairs of hex digits belong here"),
        ({"to": "0x12"}, "length >= 32"),
        ({"amount": 1.5}, "Transfer.amount: a whole number belongs here"),
        ({"amount": True}, "Transfer.amount: a whole number belongs here"),
        ({"amount": "-1"}, "Transfer.amount: a whole number belongs here"),
        ({"amount": -1}, ">= 1"),
        ({"amount": "9" * 20}, "Transfer.amount: a whole number belongs here"),
    ],
)
def test_other_documents_are_refused(document: object, what: str) -> None:
    if isinstance(document, dict) and set(document) <= {"to", "amount", "colour"}:
        good = readable_record(Transfer(asset=0, to=_KEY, amount=5, memo=b""))
        document = good | document
    with pytest.raises(BadDocument, match=what):
        record_of(document, Transfer)


def test_a_shape_says_which_it_is() -> None:
    document = readable_record(_HOLD)
    for wrong in ({"is": "Before", "time_ms": 1}, {"time_ms": 1}, 7):
        branch = {"to": "0x" + "00" * 32, "condition": wrong, "vesting": None}
        with pytest.raises(BadDocument, match="After, AtLeast, HashLock, Signers"):
            record_of(document | {"branches": [branch]}, Hold)


def test_depth_is_bounded() -> None:
    condition: dict[str, object] = {"is": "After", "time_ms": 1}
    for _ in range(100):
        condition = {"is": "AtLeast", "least": 1, "parts": [condition]}
    branch = {"to": "0x" + "00" * 32, "condition": condition, "vesting": None}
    with pytest.raises(BadDocument, match="nested more than"):
        record_of(readable_record(_HOLD) | {"branches": [branch]}, Hold)
