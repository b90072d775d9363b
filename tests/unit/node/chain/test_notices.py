"""What peers that watch hear of their transactions: each once, only theirs, late ones too."""

from collections.abc import Callable, Sequence

from prsm.consensus.ledger.outcome import LedgerTip, Outcome
from prsm.node.chain import notices as module
from prsm.node.chain.driver import Head
from prsm.node.chain.mempool import MempoolFull
from prsm.node.chain.noncequeue import RETRY_AFTER_MS, NonceGap, SenderLimited
from prsm.node.chain.notices import Notices
from prsm.protocol.codec import encode
from prsm.protocol.errors import BadSignature
from prsm.protocol.ids import Digest, Height, Millis, PeerId, TxId
from prsm.protocol.messages.notices import Included, Refused, Watch
from prsm.protocol.signing import sha256
from prsm.protocol.transactions.results import Code, TxReceipt
from prsm.testnet.chain import Chain, small_genesis
from tests.tools.wires import Wire

ANN, BOB = PeerId("ann"), PeerId("bob")
MADE = Chain(small_genesis()).add()
RAWS = tuple(bytes([i]) * 40 for i in range(4))
IDS = tuple(TxId(sha256(raw)) for raw in RAWS)


class Room:
    """Notices over a wire, and blocks by hand."""

    def __init__(self, *watchers: PeerId) -> None:
        self.wire = Wire()
        self.heads: list[Callable[[Head], None]] = []
        self.notices = Notices(self.wire, self.heads)
        for peer in watchers:
            self.wire.hear(peer, Watch(wanted=True))

    def block(self, height: int, tx_ids: Sequence[TxId], *, failed: Sequence[TxId] = ()) -> None:
        receipts = tuple(
            encode(
                TxReceipt(
                    tx=tx_id,
                    code=Code.INSUFFICIENT_FUNDS if tx_id in failed else Code.DONE,
                    fee=1,
                    paid=(),
                    returned=0,
                    detail=0,
                )
            )
            for tx_id in tx_ids
        )
        tip = LedgerTip(Height(height), _hash(height), Millis(height), _hash(0))
        outcome = Outcome(
            _hash(height - 1), tip, [], receipts, list(tx_ids), (), MADE.outcome.epoch
        )
        for listener in self.heads:
            listener(Head(MADE.block, MADE.certificate, outcome))


def _hash(number: int) -> Digest:
    return Digest(bytes([number]) * 32)


def test_each_watcher_hears_its_own_in_the_order_of_the_block() -> None:
    """Two watchers, one block: each gets one frame with what it brought, and which failed."""
    room = Room(ANN, BOB)
    room.notices.taken(ANN, IDS[:3])
    room.notices.taken(BOB, IDS[2:])
    room.block(7, (IDS[3], IDS[2], IDS[0]), failed=(IDS[2],))
    assert room.wire.sent == [
        (BOB, Included(7, _hash(7), (IDS[3], IDS[2]), (1,))),
        (ANN, Included(7, _hash(7), (IDS[2], IDS[0]), (0,))),
    ]
    room.block(8, (IDS[1], IDS[2]))
    assert room.wire.sent[2:] == [(ANN, Included(8, _hash(8), (IDS[1],), ()))]


def test_nobody_hears_without_watching_nor_after_leaving() -> None:
    """No frame to a peer that never asked, or that has said it wants no more."""
    room = Room(BOB)
    room.notices.taken(ANN, IDS)
    room.notices.taken(BOB, IDS)
    room.wire.hear(BOB, Watch(wanted=False))
    room.notices.refused(ANN, RAWS, MempoolFull("full"))
    room.notices.refused(BOB, RAWS, MempoolFull("full"))
    room.block(1, IDS)
    assert room.wire.sent == []


def test_refusal_names_reason_time_and_transactions() -> None:
    """A full mempool has a time to come again, a bad signature has none."""
    room = Room(ANN)
    room.notices.refused(ANN, RAWS[:2], MempoolFull("full", retry_after_ms=300))
    room.notices.refused(ANN, RAWS[2:3], BadSignature("not signed"))
    assert room.wire.sent == [
        (ANN, Refused("mempool_full", 300, IDS[:2])),
        (ANN, Refused("bad_signature", 0, IDS[2:3])),
    ]
    room.notices.refused(ANN, RAWS[:1], NonceGap("missing 3"))
    room.notices.refused(ANN, RAWS[:1], SenderLimited("64 wait"))
    assert room.wire.sent[2:] == [
        (ANN, Refused("nonce_gap", RETRY_AFTER_MS, IDS[:1])),
        (ANN, Refused("sender_limited", RETRY_AFTER_MS, IDS[:1])),
    ]


def test_transaction_that_arrives_after_its_block_is_answered_with_the_block() -> None:
    """A late copy is refused by its nonce; its sender hears the block instead, for a while."""
    room = Room(ANN)
    room.block(1, IDS[:2], failed=(IDS[1],))
    room.notices.refused(ANN, (RAWS[1], RAWS[3]), BadSignature("late"))
    assert room.wire.sent == [
        (ANN, Included(1, _hash(1), (IDS[1],), (0,))),
        (ANN, Refused("bad_signature", 0, (IDS[3],))),
    ]
    for height in range(2, 2 + module.BLOCKS_REMEMBERED):
        room.block(height, ())
    room.notices.refused(ANN, RAWS[:1], BadSignature("late"))
    assert room.wire.sent[2:] == [(ANN, Refused("bad_signature", 0, IDS[:1]))]


def test_memory_of_awaited_transactions_is_bounded() -> None:
    """One more than the bound: the oldest is forgotten, the others are told."""
    room = Room(ANN)
    many = [TxId(i.to_bytes(32, "big")) for i in range(module.AWAITED_MAX + 1)]
    room.notices.taken(ANN, many)
    room.block(1, many[:2])
    assert room.wire.sent == [(ANN, Included(1, _hash(1), (many[1],), ()))]
