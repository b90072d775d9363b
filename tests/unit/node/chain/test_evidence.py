"""What is kept of accusations, for how long, and who is told.

Method: a pool whose judge is a set of bytes; a wire that writes down what is sent.
"""

import msgspec

from prsm.consensus.pbft.effects import Accuse
from prsm.node.chain.evidence import WAITING_MAX, EvidencePool, Witness
from prsm.protocol.codec import decode, encode
from prsm.protocol.errors import WireError
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import EVIDENCE_BYTES_MAX
from prsm.protocol.messages.consensus import Accusation, SignedMessage
from prsm.protocol.signing import Kind
from prsm.protocol.transactions.payloads import Evidence
from prsm.protocol.validators import Members, Validator, ValidatorSet
from tests.tools.wires import Wire

COMMIT = SignedMessage(Kind.COMMIT, 0, 5, 0, b"a" * 32, 3, bytes(64))
OTHER = msgspec.structs.replace(COMMIT, body=b"b" * 32)


def test_pool_keeps_what_convicts_once_and_in_order() -> None:
    guilty = {b"one", b"two", b"three"}
    pool = EvidencePool(guilty.__contains__)
    assert [pool.add(raw) for raw in (b"one", b"lie", b"two", b"one")] == [True, False, True, False]
    assert len(pool) == 2
    assert pool.waiting(100) == (b"one", b"two")
    assert pool.waiting(5) == (b"one",)
    assert pool.waiting(2) == ()
    guilty.remove(b"one")  # it stands in a block
    pool.settle()
    assert pool.waiting(100) == (b"two",)


def test_pool_has_room_for_so_many_and_no_more() -> None:
    pool = EvidencePool(lambda _raw: True)
    added = [pool.add(b"%d" % number) for number in range(WAITING_MAX + 3)]
    assert sum(added) == len(pool) == WAITING_MAX


def _set(*peers: str) -> ValidatorSet:
    members = tuple(
        Validator(bytes([i]) * 32, bytes([i + 40]) * 32, peer, 1) for i, peer in enumerate(peers)
    )
    return ValidatorSet(Members(epoch=0, validators=members))


class Room:
    """A witness over a wire; the ledger takes whatever decodes."""

    def __init__(self) -> None:
        self.wire = Wire()
        self.woken = 0
        self.pool = EvidencePool(self._convicts)
        validators = _set("ann", self.wire.peer_id, "bob")
        self.witness = Witness(self.pool, self.wire, lambda: validators, self._wake)

    def _wake(self) -> None:
        self.woken += 1

    @staticmethod
    def _convicts(raw: bytes) -> bool:
        try:
            decode(raw, Evidence, size_max=EVIDENCE_BYTES_MAX)
        except WireError:
            return False
        return True


def test_accusation_is_told_once_to_every_other_validator() -> None:
    """The condensed pair, in the one order that the ledger takes; said again it is known."""
    room = Room()
    room.witness.accuse(Accuse(OTHER, COMMIT))
    room.witness.accuse(Accuse(COMMIT, OTHER))
    raw = encode(Evidence(first=COMMIT, second=OTHER))
    told = [(peer, message) for peer, message in room.wire.sent if isinstance(message, Accusation)]
    assert told == [(PeerId("ann"), Accusation(raw)), (PeerId("bob"), Accusation(raw))]
    assert room.pool.waiting(EVIDENCE_BYTES_MAX) == (raw,)
    assert room.woken == 1


def test_accusation_of_a_peer_is_judged_before_it_is_kept_or_passed_on() -> None:
    room = Room()
    for _ in range(2):
        room.wire.hear(PeerId("ann"), Accusation(b"no evidence"))
    assert (room.wire.sent, len(room.pool), room.woken) == ([], 0, 0)
    raw = encode(Evidence(first=COMMIT, second=OTHER))
    for _ in range(2):
        room.wire.hear(PeerId("ann"), Accusation(raw))
    assert [peer for peer, _ in room.wire.sent] == ["ann", "bob"]
    assert (len(room.pool), room.woken) == (1, 1)
    assert room.wire.penalties == []


def test_messages_that_make_no_evidence_are_dropped() -> None:
    """A body of no kind, or a VIEW_CHANGE as large as only a liar's is."""
    room = Room()
    room.witness.accuse(Accuse(COMMIT, msgspec.structs.replace(OTHER, body=b"short")))
    huge = msgspec.structs.replace(OTHER, kind=Kind.VIEW_CHANGE, body=bytes(EVIDENCE_BYTES_MAX))
    room.witness.accuse(Accuse(COMMIT, huge))
    assert (room.wire.sent, len(room.pool)) == ([], 0)
