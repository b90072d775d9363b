"""The door for votes and transactions: what passes, what costs its sender, what is bounded."""

import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import msgspec
import pytest
import trio
import trio.testing

from prsm.consensus.ledger.admission import Admission as LedgerAdmission
from prsm.consensus.ledger.admission import Checked
from prsm.consensus.pbft.opened import Opened
from prsm.node.chain import admission as module
from prsm.node.chain import votes as votes_module
from prsm.node.chain.admission import Admission, Rules, Seen
from prsm.node.chain.batches import INLINE_MAX
from prsm.node.chain.mempool import MempoolFull
from prsm.node.net.interface import Busy
from prsm.protocol.codec import encode
from prsm.protocol.ed25519 import Ed25519Signer, Ed25519Verifier
from prsm.protocol.errors import BadSignature, PrsmError, WireError, WrongChain
from prsm.protocol.genesis import Parameters
from prsm.protocol.identity import peer_id_of
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import TRANSACTION_BYTES_MAX
from prsm.protocol.messages.consensus import SignedMessage, sign_message
from prsm.protocol.messages.sync import Submit
from prsm.protocol.signing import Kind
from prsm.protocol.transactions.envelope import Transaction, sign_transaction
from prsm.protocol.transactions.payloads import TRANSFER, Transfer
from prsm.protocol.validators import Members, Validator, ValidatorSet
from tests.tools.wires import Wire

CHAIN = b"testnet1"
PEER = PeerId("peer")
KEY = Ed25519Signer(b"k" * 32)
VALIDATORS = ValidatorSet(
    Members(0, (Validator(KEY.public_key, KEY.public_key, peer_id_of(KEY.public_key), 10**9),))
)


def vote(**changes: object) -> SignedMessage:
    unsigned = SignedMessage(
        kind=Kind.PREPARE,
        epoch=0,
        height=1,
        view=0,
        body=bytes(32),
        signer=0,
        signature=bytes(64),
    )
    changed = msgspec.structs.replace(unsigned, **changes)
    return sign_message(changed, KEY, CHAIN) if len(changed.body) == 32 else changed


def transaction(nonce: int = 0, *, fee: int = 10**6, chain_id: bytes = CHAIN) -> bytes:
    unsigned = Transaction(
        version=1,
        chain_id=chain_id,
        kind=TRANSFER,
        sender=KEY.public_key,
        nonce=nonce,
        fee=fee,
        payload=encode(Transfer(asset=0, to=bytes(32), amount=1, memo=b"")),
        valid_until_ms=10**12,
        signature=bytes(64),
    )
    return encode(sign_transaction(unsigned, KEY))


@dataclass
class Door:
    wire: Wire
    admission: Admission
    votes: list[Opened]
    taken: list[bytes] = field(default_factory=list)
    refuse: bool = False

    async def settled(self) -> None:
        """Until all that arrived was judged."""
        for _ in range(5):
            await trio.testing.wait_all_tasks_blocked(0.005)


@asynccontextmanager
async def open_door() -> AsyncIterator[Door]:
    wire, seen, verifier = Wire(), Seen(), Ed25519Verifier()
    votes: list[Opened] = []

    def take(raw: bytes, _transaction: Transaction) -> None:
        if door.refuse:
            raise MempoolFull("full")
        door.taken.append(raw)

    ledger = LedgerAdmission(CHAIN, Parameters(), verifier, known=seen)
    rules = Rules(CHAIN, verifier, ledger.check, lambda epoch: VALIDATORS if epoch == 0 else None)
    admission = Admission(
        wire,
        rules=rules,
        on_vote=votes.append,
        on_transaction=take,
        known=seen,
    )
    door = Door(wire, admission, votes)
    async with trio.open_nursery() as nursery:
        await nursery.start(admission.run)
        yield door
        nursery.cancel_scope.cancel()


async def test_vote_passes_when_its_validator_signed_it() -> None:
    """One signed vote: the replica gets it opened, nobody is blamed."""
    async with open_door() as door:
        door.wire.hear(PEER, vote())
        await door.settled()
        assert [opened.message for opened in door.votes] == [vote()]
        assert door.wire.penalties == []


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (vote(signer=1), WireError),
        (vote(body=b"short"), WireError),
        (msgspec.structs.replace(vote(), height=2), BadSignature),
        (msgspec.structs.replace(vote(), kind=Kind.PROPOSE), WireError),
    ],
)
async def test_vote_costs_its_sender_when_nobody_signed_it(
    bad: SignedMessage, error: type[Exception]
) -> None:
    """Unknown signer, a body of no kind, a changed height: blamed, and never passed."""
    async with open_door() as door:
        door.wire.hear(PEER, bad)
        await door.settled()
        assert door.votes == []
        assert [(peer, type(why)) for peer, why in door.wire.penalties] == [(PEER, error)]


async def test_vote_of_an_unknown_epoch_is_nobodys_fault() -> None:
    """One of the two nodes is far behind: not passed, not blamed."""
    async with open_door() as door:
        door.wire.hear(PEER, vote(epoch=7))
        await door.settled()
        assert (door.votes, door.wire.penalties) == ([], [])


async def test_votes_keep_their_order_when_a_batch_goes_through_a_thread() -> None:
    """More than fits inline, one of them bad: the rest arrives in order."""
    async with open_door() as door:
        many = [vote(height=height) for height in range(1, 3 * INLINE_MAX)]
        for item in many:
            door.wire.hear(PEER, item)
        door.wire.hear(PEER, msgspec.structs.replace(vote(), height=99))
        with trio.fail_after(5):
            while len(door.votes) < len(many):
                await door.settled()
        assert [opened.message for opened in door.votes] == many
        assert len(door.wire.penalties) == 1


async def test_votes_are_dropped_when_the_queue_is_full() -> None:
    """All at once: the task that waits takes one, 4,096 queue up, five are counted and gone."""
    async with open_door() as door:
        await door.settled()
        none_prompt(door)
        for _ in range(votes_module.VOTES_WAITING_MAX + 6):
            door.wire.hear(PEER, vote())
        assert door.admission.votes.dropped == 5


def none_prompt(door: Door) -> None:
    """As if the few votes that are checked as they come had just come."""
    votes = door.admission.votes
    votes._prompt, votes._prompt_since_s = INLINE_MAX, trio.current_time() + 60


async def test_few_votes_take_no_turn_of_the_loop() -> None:
    """A vote that comes alone has passed when its receiver returns; so does a bad one's blame."""
    async with open_door() as door:
        door.wire.hear(PEER, vote())
        assert len(door.votes) == 1
        door.wire.hear(PEER, vote(signer=1))
        assert [type(why) for _, why in door.wire.penalties] == [WireError]


async def test_vote_behind_one_that_waits_does_not_pass_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However slow a clock makes the first ones: what came later is handed on later."""
    now_s = iter(range(1_000))
    async with open_door() as door:
        none_prompt(door)
        many = [vote(height=height) for height in range(1, 4)]
        door.wire.hear(PEER, many[0])
        monkeypatch.setattr(trio, "current_time", lambda: 10**6 + next(now_s))
        door.wire.hear(PEER, many[1])
        monkeypatch.undo()
        assert door.votes == []
        await door.settled()
        door.wire.hear(PEER, many[2])
        await door.settled()
        assert [opened.message for opened in door.votes] == many


async def test_late_votes_wait_until_there_is_time(
    autojump_clock: trio.testing.MockClock,  # noqa: ARG001 - it is the clock
) -> None:
    """Ten milliseconds later all of them come together; what is not late goes before them."""
    async with open_door() as door:
        door.admission.votes.is_late = lambda message: message.height == 1
        late = [vote(height=1, view=view) for view in range(3)]
        door.wire.hear(PEER, late[0])
        await trio.sleep(votes_module.LATE_SECONDS / 2)
        for item in (*late[1:], vote(height=2)):
            door.wire.hear(PEER, item)
        assert [opened.message for opened in door.votes] == [vote(height=2)]
        door.wire.hear(PEER, msgspec.structs.replace(late[0], signature=bytes(64)))
        await trio.sleep(votes_module.LATE_SECONDS * 0.6)
        assert [opened.message for opened in door.votes[1:]] == late
        assert [type(why) for _, why in door.wire.penalties] == [BadSignature]
        door.wire.hear(PEER, late[0])
        await trio.sleep(votes_module.LATE_SECONDS * 1.1)
        assert len(door.votes) == 5


async def test_late_votes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound they are taken as any others."""
    monkeypatch.setattr(votes_module, "VOTES_WAITING_MAX", 3)
    async with open_door() as door:
        door.admission.votes.is_late = lambda _message: True
        for _ in range(4):
            door.wire.hear(PEER, vote())
        assert (len(door.admission.votes._late), len(door.votes)) == (3, 1)


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (b"no transaction", WireError),
        (transaction()[:-1] + b"\0", BadSignature),
        (transaction(chain_id=b"elsewher"), WrongChain),
    ],
)
async def test_transaction_costs_its_sender_when_it_is_none_of_ours(
    raw: bytes, error: type[Exception]
) -> None:
    """Garbage, a changed signature, another network: blamed, and the mempool never sees it."""
    async with open_door() as door:
        door.wire.hear(PEER, Submit(transactions=(raw, transaction())))
        await door.settled()
        assert door.taken == [transaction()]
        assert [(peer, type(why)) for peer, why in door.wire.penalties] == [(PEER, error)]


@pytest.mark.parametrize("count", [1, INLINE_MAX, INLINE_MAX + 1, 40])
async def test_whole_batch_is_checked_in_one_thread_when_it_is_worth_it(count: int) -> None:
    """Few signatures are checked where they arrive; more of them elsewhere, all in one place."""
    async with open_door() as door:
        places: list[int] = []
        check = door.admission._rules.check

        def noting(raw: bytes) -> Checked:
            places.append(threading.get_ident())
            return check(raw)

        door.admission._rules = replace(door.admission._rules, check=noting)
        door.wire.hear(PEER, Submit(transactions=tuple(transaction(n) for n in range(count))))
        with trio.fail_after(5):
            while len(door.taken) < count:
                await door.settled()
        assert len(set(places)) == 1
        assert (places[0] == threading.get_ident()) == (count <= INLINE_MAX)


async def test_bad_signature_in_a_batch_names_only_who_brought_it() -> None:
    """Frames of five peers in one batch, two of them with a forged one: the others are taken."""
    peers = [PeerId(f"peer{number}") for number in range(5)]
    forged = transaction(7)[:-1] + b"\0"
    async with open_door() as door:
        await door.settled()
        for number, peer in enumerate(peers):
            good = transaction(2 * number), transaction(2 * number + 1)
            raws = (good[0], forged, good[1]) if number in (1, 3) else good
            door.wire.hear(peer, Submit(transactions=raws))
        with trio.fail_after(5):
            while len(door.taken) < 10:
                await door.settled()
        assert door.taken == [transaction(number) for number in range(10)]
        blamed = [(peer, type(why)) for peer, why in door.wire.penalties]
        assert blamed == [(peers[1], BadSignature), (peers[3], BadSignature)]


async def test_transaction_is_dropped_without_blame_when_the_node_wants_more() -> None:
    """Too small a fee, or a full mempool: an honest peer may send these."""
    async with open_door() as door:
        door.refuse = True
        door.wire.hear(PEER, Submit(transactions=(transaction(fee=1), transaction())))
        await door.settled()
        assert door.taken == []
        assert door.wire.penalties == []


async def test_transaction_is_refused_at_once_when_it_is_too_large() -> None:
    """It never enters the queue; the network counts the raised error against the peer."""
    async with open_door() as door:
        with pytest.raises(WireError, match="131073 bytes, at most 131072"):
            door.wire.hear(PEER, Submit(transactions=(bytes(TRANSACTION_BYTES_MAX + 1),)))


async def test_waiting_transactions_are_bounded_in_bytes() -> None:
    """300 of 128 KiB arrive at once: 128 wait, and there is room again after they were judged."""
    async with open_door() as door:
        large = bytes(TRANSACTION_BYTES_MAX)
        for _ in range(300):
            door.wire.hear(PEER, Submit(transactions=(large,)))
        assert door.admission.dropped == 300 - 128
        with trio.fail_after(5):
            while len(door.wire.penalties) < 128:
                await door.settled()
        door.wire.hear(PEER, Submit(transactions=(transaction(),)))
        with trio.fail_after(5):
            while not door.taken:
                await door.settled()


def test_what_was_decoded_is_kept_in_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """By count and by bytes, the oldest first; an id is remembered longer than its record."""
    check = LedgerAdmission(CHAIN, Parameters(), Ed25519Verifier()).check
    items = [check(transaction(nonce)) for nonce in range(6)]
    monkeypatch.setattr(module, "DECODED_MAX", 4)
    seen = Seen()
    for item in [*items, items[5]]:
        seen.keep(item)
    assert [seen.recall(item.id) for item in items] == [None, None, *items[2:]]
    assert all(item.id in seen for item in items)
    monkeypatch.setattr(module, "DECODED_BYTES_MAX", 2 * len(items[0].raw))
    seen.keep(check(transaction(6)))
    assert [seen.recall(item.id) for item in items] == [None] * 5 + [items[5]]
    assert seen._decoded_bytes == sum(len(item.raw) for item in seen._decoded.values())


def test_what_is_in_a_block_is_no_longer_held_decoded() -> None:
    check = LedgerAdmission(CHAIN, Parameters(), Ed25519Verifier()).check
    items = [check(transaction(nonce)) for nonce in range(3)]
    seen = Seen()
    for item in items:
        seen.keep(item)
    seen.settle([items[0].id, b"never seen".ljust(32), items[2].id])
    assert [seen.recall(item.id) for item in items] == [None, items[1], None]
    assert all(item.id in seen for item in items)
    assert seen._decoded_bytes == len(items[1].raw)


async def test_own_transaction_hears_the_refusal() -> None:
    """RPC gets a typed error, and a good one is remembered as checked."""
    async with open_door() as door:
        with pytest.raises(BadSignature):
            door.admission.admit_own(transaction()[:-1] + b"\0")
        checked = door.admission.admit_own(transaction())
        assert checked.id in door.admission.known
        assert door.admission.known.recall(checked.id) is checked
        door.refuse = True
        with pytest.raises(MempoolFull):
            door.admission.admit_own(transaction(1))


def test_seen_forgets_the_oldest_first() -> None:
    """A memory of two holds the last two."""
    seen = Seen(2)
    for item in (b"a", b"b", b"c"):
        seen.add(item)
    assert (b"a" in seen, b"b" in seen, b"c" in seen, len(seen)) == (False, True, True, 2)


async def test_transactions_beyond_the_room_are_refused_unchecked() -> None:
    """Room for one: a frame of two is refused as a whole, with a time; then one passes."""
    async with open_door() as door:
        refused: list[tuple[PeerId, int, str, int]] = []

        def on_refused(peer: PeerId, raws: Sequence[bytes], error: PrsmError) -> None:
            assert isinstance(error, Busy)
            refused.append((peer, len(raws), error.reason, error.retry_after_ms))

        door.admission.on_refused = on_refused
        door.admission.room = lambda: 1
        bad = transaction(fee=1)
        door.wire.hear(PEER, Submit(transactions=(bad, transaction())))
        door.wire.hear(PEER, Submit(transactions=(transaction(),)))
        await door.settled()
        assert refused == [(PEER, 2, "busy", module.RETRY_AFTER_MS)]
        assert door.taken == [transaction()]
        assert door.admission.dropped == 2
