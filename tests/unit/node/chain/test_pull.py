"""Transactions by id: who is told, who is asked, what a liar gains, what is bounded."""
# ruff: noqa: ARG001 - pytest-trio takes the clock from among the arguments of a test

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import pytest
import trio
from trio.testing import MockClock

from prsm.node.chain.admission import Admission
from prsm.node.chain.driver import Driver
from prsm.node.chain.mempool import Accounts, Mempool
from prsm.node.chain.pull import ASK_SECONDS, SETTLED_MS, TELL_SECONDS, TOLD_AFTER_MS, Pull
from prsm.node.net.interface import CallRefused
from prsm.protocol.codec import Record, encode
from prsm.protocol.ids import Millis, PeerId, TxId
from prsm.protocol.limits import PULLED_BYTES_MAX, PULLED_MAX, TRANSACTION_BYTES_MAX
from prsm.protocol.messages.pool import GetTransactions, GotTransactions, Pending
from prsm.protocol.messages.sync import GotBlocks
from prsm.protocol.transactions.envelope import Transaction, transaction_id
from tests.tools.wires import US, Wire

ONE, TWO, STRANGER = PeerId("one"), PeerId("two"), PeerId("stranger")


def order(nonce: int, *, size: int = 0, sender: bytes = b"A" * 32) -> tuple[bytes, Transaction]:
    transaction = Transaction(
        version=1,
        chain_id=bytes(8),
        kind=1,
        sender=sender,
        nonce=nonce,
        fee=1_000,
        payload=bytes(size),
        valid_until_ms=2**62,
        signature=bytes(64),
    )
    return encode(transaction), transaction


class VirtualClock:
    """Both times are those of the mock clock."""

    def monotonic_ms(self) -> Millis:
        return Millis(round(trio.current_time() * 1000))

    def wall_ms(self) -> Millis:
        return Millis(1_800_000_000_000 + self.monotonic_ms())


@dataclass
class Validator:
    peer_id: str


@dataclass
class Set:
    validators: tuple[Validator, ...] = (Validator(ONE), Validator(TWO), Validator(US))


@dataclass
class Replica:
    """What `Pull` sees of a driver."""

    network: Wire = field(default_factory=Wire)
    clock: VirtualClock = field(default_factory=VirtualClock)
    validators: Set = field(default_factory=Set)
    mempool: Mempool = field(
        default_factory=lambda: Mempool(Accounts(lambda _: 0, lambda _: 10**12))
    )


@dataclass
class Door:
    """What `Pull` sees of admission: it notes what arrives, while it has room."""

    has_room: bool = True
    taken: list[tuple[PeerId, tuple[bytes, ...]]] = field(default_factory=list)

    def offer(self, peer: PeerId, raws: tuple[bytes, ...]) -> bool:
        if self.has_room:
            self.taken.append((peer, raws))
        return self.has_room


@dataclass
class Stage:
    replica: Replica
    door: Door
    pull: Pull

    @property
    def wire(self) -> Wire:
        return self.replica.network

    def tell(self, peer: PeerId, *raws: bytes) -> None:
        if peer not in self.wire.live:
            self.wire.live.append(peer)
        self.wire.hear(peer, Pending(ids=tuple(transaction_id(raw) for raw in raws)))

    def holds(self, peer: PeerId, *raws: bytes) -> None:
        """The peer answers with those of these that it is asked for."""

        def reply(ask: GetTransactions) -> Record:
            return GotTransactions(
                transactions=tuple(raw for raw in raws if transaction_id(raw) in ask.ids)
            )

        self.answer(peer, reply)

    def answer(self, peer: PeerId, reply: Callable[[GetTransactions], Record]) -> None:
        async def say(message: Record) -> Record:
            await trio.sleep(0.1)
            assert isinstance(message, GetTransactions)
            return reply(message)

        self.wire.replies[peer] = say

    def asked(self, peer: PeerId) -> list[int]:
        """How many ids each question to a peer named."""
        return [
            len(message.ids)
            for called, message in self.wire.calls
            if called == peer and isinstance(message, GetTransactions)
        ]

    def told(self) -> list[tuple[PeerId, tuple[bytes, ...]]]:
        return [(peer, said.ids) for peer, said in self.wire.sent if isinstance(said, Pending)]


@pytest.fixture
async def stage(nursery: trio.Nursery) -> Stage:
    assert trio.current_time() == 0, "the mock clock runs"
    replica, door = Replica(), Door()
    pull = Pull(cast("Driver", replica), cast("Admission", door))
    await nursery.start(pull.run)
    return Stage(replica, door, pull)


async def test_validators_are_told_what_has_waited(stage: Stage, autojump_clock: MockClock) -> None:
    """Nothing of an empty pool, nothing of what just came, nothing to a peer without a vote."""
    stage.wire.live += [ONE, STRANGER]
    await trio.sleep(3 * TELL_SECONDS - 0.5)
    assert stage.told() == []
    raw, transaction = order(0)
    now_ms = stage.replica.clock.wall_ms()
    stage.replica.mempool.add(raw, transaction, now_ms)
    stage.replica.mempool.add(*order(2), now_ms)  # behind a gap: nobody needs it now
    await trio.sleep(0.6)
    assert stage.told() == []
    await trio.sleep(TELL_SECONDS + TOLD_AFTER_MS / 1000)
    assert stage.told() == [(ONE, (transaction_id(raw),))]


async def test_missing_ones_are_asked_for_once_and_handed_in(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """Two peers name the same three; one waits here: two are asked of one peer, and checked."""
    (held, transaction), (a, _), (b, _) = order(0), order(1), order(2)
    stage.replica.mempool.add(held, transaction, 0)
    stage.holds(ONE, held, a, b)
    stage.holds(TWO, held, a, b)
    for _ in range(5):
        stage.tell(ONE, held, a, b)
        stage.tell(TWO, held, a, b)
        await trio.sleep(TELL_SECONDS)
    assert (stage.asked(ONE), stage.asked(TWO)) == ([2], [])
    assert stage.door.taken == [(ONE, (a, b))]
    await trio.sleep(SETTLED_MS / 1000)  # refused here, it may be taken later
    stage.tell(ONE, a)
    await trio.sleep(1)
    assert stage.asked(ONE) == [2, 1]


async def test_one_question_to_a_peer_at_a_time(stage: Stage, autojump_clock: MockClock) -> None:
    """600 ids in two words while it is being asked: 256 a question, the last word counts."""
    raws = [order(nonce)[0] for nonce in range(600)]
    stage.holds(ONE, *raws)
    stage.tell(ONE, *raws[:300])
    await trio.sleep(0.05)
    stage.tell(ONE, *raws[300:310])
    stage.tell(ONE, *raws[100:600])
    assert stage.asked(ONE) == [PULLED_MAX]
    await trio.sleep(1)
    assert stage.asked(ONE) == [PULLED_MAX, PULLED_MAX]
    assert stage.pull._asking == {}


async def test_silent_peer_keeps_no_other_from_being_asked(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """It names what it never sends: asked ever more rarely, and the other one gives it."""

    async def say_nothing(_message: Record) -> Record:
        await trio.sleep_forever()
        raise AssertionError

    raw, _ = order(0)
    stage.wire.replies[ONE] = say_nothing
    stage.holds(TWO, raw)
    for _ in range(30):
        stage.tell(ONE, raw, order(1)[0])
        stage.tell(TWO, raw)
        await trio.sleep(TELL_SECONDS)
    assert stage.door.taken[0] == (TWO, (raw,))
    assert len(stage.asked(ONE)) == 4  # in a minute: after pauses of 5, 10 and 20 s
    assert stage.wire.penalties == []
    assert ASK_SECONDS == 5


@pytest.mark.parametrize(
    "lie",
    [
        GotTransactions(transactions=(order(7)[0],)),
        GotTransactions(transactions=(order(0)[0], order(0)[0])),
        GotTransactions(transactions=(order(0, size=TRANSACTION_BYTES_MAX)[0],)),
        GotBlocks(blocks=()),
    ],
    ids=["unasked", "twice", "large", "kind"],
)
async def test_answer_no_honest_peer_gives_is_a_fault(
    stage: Stage, autojump_clock: MockClock, lie: Record
) -> None:
    """Blamed, not handed in, and not asked again at once."""
    stage.answer(ONE, lambda _ask: lie)
    wanted = (order(0)[0], order(0, size=TRANSACTION_BYTES_MAX)[0])
    stage.tell(ONE, *wanted)
    await trio.sleep(1)
    stage.tell(ONE, *wanted)
    await trio.sleep(1)
    assert [peer for peer, _ in stage.wire.penalties] == [ONE]
    assert stage.asked(ONE) == [2]
    assert stage.door.taken == []


async def test_refusal_is_a_pause_without_blame(stage: Stage, autojump_clock: MockClock) -> None:
    """A busy peer is asked again after its pause, and forgotten once it is gone."""

    def refuse(_ask: GetTransactions) -> Record:
        raise CallRefused("busy", "too much to do", peer=ONE)

    stage.answer(ONE, refuse)
    raw, _ = order(0)
    stage.tell(ONE, raw)
    await trio.sleep(1)
    stage.tell(ONE, raw)
    await trio.sleep(5)
    stage.holds(ONE, raw)
    stage.tell(ONE, raw)
    await trio.sleep(1)
    assert len(stage.asked(ONE)) == 2
    assert stage.door.taken == [(ONE, (raw,))]
    assert stage.wire.penalties == []
    stage.wire.live.remove(ONE)
    stage.wire.hear(ONE, Pending(ids=(bytes(32),)))
    await trio.sleep(1)
    assert (stage.pull._told, stage.pull._pauses) == ({}, {})


async def test_full_door_settles_nothing(stage: Stage, autojump_clock: MockClock) -> None:
    """What admission had no room for is asked for again when it is named again."""
    raw, _ = order(0)
    stage.holds(ONE, raw)
    stage.door.has_room = False
    stage.tell(ONE, raw)
    await trio.sleep(1)
    stage.door.has_room = True
    stage.tell(ONE, raw)
    await trio.sleep(1)
    assert stage.asked(ONE) == [1, 1]
    assert stage.door.taken == [(ONE, (raw,))]


async def test_answer_is_what_waits_here_within_its_bytes(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """Unknown ids are left out, and so is what a frame of a megabyte cannot hold."""
    large = [order(nonce, size=60_000) for nonce in range(20)]
    small = order(0, sender=b"B" * 32)
    for raw, transaction in (*large, small):
        stage.replica.mempool.add(raw, transaction, 0)
    ids = (bytes(32), *(transaction_id(raw) for raw, _ in (*large, small)))
    answer = await stage.wire.ask(STRANGER, GetTransactions(ids=tuple(map(TxId, ids))))
    assert isinstance(answer, GotTransactions)
    assert answer.transactions == (*(raw for raw, _ in large[:17]), small[0])
    assert sum(map(len, answer.transactions)) <= PULLED_BYTES_MAX
