"""Places a node takes, relays it dials for others' sake: bounded, renewed, let go."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked
from typing_extensions import override

from prsm.node.net.behind import (
    PLACES_WANTED,
    REFUSED_FOR_MS,
    RELAYS_DIALLED_MAX,
    Behind,
    Line,
)
from prsm.node.net.circuit import Circuits
from prsm.node.net.entry import NotAllowed, PeerFull
from prsm.node.net.interface import Busy, CallRefused, Channel, PeerInfo, PeerUnreachable
from prsm.node.net.keepers import VIA
from prsm.node.net.peers import Connection
from prsm.protocol.codec import Record
from prsm.protocol.errors import PrsmError, WrongChain
from prsm.protocol.identity import circuit_address, parse_address, peer_id_of
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.reach import Granted, Reserve
from tests.tools.wires import Wire

LIFETIME_MS = 60_000
US = peer_id_of(b"u" * 32)


def peer(number: int) -> PeerId:
    return peer_id_of(bytes([number]) * 32)


def address(number: int) -> str:
    return f"/ip4/8.8.8.{number}/tcp/1/p2p/{peer(number)}"


class Field(Wire):
    """Relays that are linked, and addresses that were dialled."""

    def __init__(self) -> None:
        super().__init__(peer_id=US)
        self.dialled: list[str] = []
        self.there: set[str] = set()
        self.let_go: list[PeerId] = []
        self.hints: set[str] = set()
        self.why: PrsmError = PeerUnreachable("nobody there")

    @override
    def peers(self) -> tuple[PeerInfo, ...]:
        known = {peer(number): address(number) for number in range(1, 40)}
        return tuple(PeerInfo(each, known[each], True, 0, None, "") for each in sorted(self.live))

    @override
    async def connect(self, address: str, *, hint: str = "") -> PeerId:
        await trio.lowlevel.checkpoint()
        self.dialled.append(address)
        self.hints.add(hint)
        if address not in self.there:
            raise self.why
        self.meet(parse_address(address).peer)
        return self.live[-1]

    @override
    async def disconnect(self, peer: PeerId, *, hint: str = "") -> None:
        await trio.lowlevel.checkpoint()
        assert hint
        self.let_go.append(peer)
        if peer in self.live:
            self.lose(peer)

    @override
    async def send(
        self,
        peer: PeerId,
        message: Record,
        *,
        channel: Channel,
        tail: bytes = b"",
        trace: bytes = b"",
    ) -> None:
        await trio.lowlevel.checkpoint()


class NoCarrier:
    async def carry_out(self, peer: PeerId, line: Line, address: str) -> Connection:
        raise NotImplementedError

    async def carry_in(self, line: Line, relay: str) -> PeerId:
        raise NotImplementedError


def make(field: Field, *via: int, circuits: Circuits | None = None) -> Behind:
    return Behind(
        field,
        Circuits(field) if circuits is None else circuits,
        NoCarrier(),
        now_ms=lambda: round(1000 * trio.current_time()),
        via=[address(number) for number in via],
    )


async def grants(_ask: Record) -> Record:
    await trio.lowlevel.checkpoint()
    return Granted(lifetime_ms=LIFETIME_MS, bytes_per_s=1)


def asked(field: Field, number: int) -> int:
    return field.calls.count((peer(number), Reserve()))


async def test_no_place_is_taken_before_it_is_needed(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    field = Field()
    behind = make(field)
    await nursery.start(behind.run)
    for number in (1, 2, 3):
        field.replies[peer(number)] = grants
        field.meet(peer(number))
    await trio.sleep(5)
    assert field.calls == []
    behind.need(is_needed=True)
    await trio.sleep(5)
    assert len(behind.places()) == len(field.calls) == PLACES_WANTED
    nursery.cancel_scope.cancel()


async def test_place_is_renewed_at_half_of_its_time_and_lost_with_the_link(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    field = Field()
    behind = make(field, 1)
    field.replies[peer(1)] = grants
    await nursery.start(behind.run)
    field.meet(peer(1))
    await trio.sleep(LIFETIME_MS / 1000 * 2)
    assert asked(field, 1) in {4, 5}
    assert behind.addresses() == (circuit_address(address(1), US),)
    field.lose(peer(1))
    assert behind.addresses() == ()
    nursery.cancel_scope.cancel()


async def test_peer_that_is_no_relay_is_left_alone_for_a_while(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    field = Field()
    behind = make(field)
    behind.need(is_needed=True)

    async def refuses(_ask: Record) -> Record:
        raise CallRefused("relay_off", "this node carries nothing for others", peer=peer(1))

    field.replies[peer(1)] = refuses
    await nursery.start(behind.run)
    field.meet(peer(1))
    await trio.sleep(REFUSED_FOR_MS / 1000 - 5)
    assert asked(field, 1) == 1
    await trio.sleep(10)
    assert asked(field, 1) == 2
    nursery.cancel_scope.cancel()


async def test_configured_relay_that_is_full_is_asked_again_soon(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    field = Field()
    behind = make(field, 1)

    async def full(_ask: Record) -> Record:
        if asked(field, 1) < 3:
            raise CallRefused(Busy.reason, "all places are taken", peer=peer(1))
        return await grants(_ask)

    field.replies[peer(1)] = full
    await nursery.start(behind.run)
    field.meet(peer(1))
    await trio.sleep(20)
    assert asked(field, 1) == 3
    assert len(behind.places()) == 1
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("why", "dials"),
    [
        (PeerUnreachable("nobody there"), 301),
        (PeerFull("50 peers, at most 50"), 11),
        (NotAllowed("it has an allow-list"), 11),
        (WrongChain("another network"), 2),
    ],
)
async def test_configured_relay_that_turns_us_away_is_dialled_seldom(
    nursery: trio.Nursery, autojump_clock: MockClock, why: PrsmError, dials: int
) -> None:
    """Each such dial is a handshake of a node that has no room; all its clients would do it."""
    field = Field()
    field.why = why
    await nursery.start(make(field, 1).run)
    await trio.sleep(300.5)
    assert len(field.dialled) == dials
    assert field.hints == {VIA}
    field.there.add(address(1))
    await trio.sleep(300)
    assert field.live == [peer(1)]
    assert len(field.dialled) == dials + 1
    nursery.cancel_scope.cancel()


async def test_relay_that_gives_way_is_let_go_though_the_dial_is_cancelled(
    nursery: trio.Nursery,
) -> None:
    """In the moment between the two: nobody would count it any more, and it were kept for ever."""
    field = Field()
    behind = make(field)
    await nursery.start(behind.run)
    target = peer(200)
    for number in range(1, RELAYS_DIALLED_MAX + 1):
        field.there.add(address(number))
        with pytest.raises(PeerUnreachable, match="is not there"):
            await behind.dial(target, circuit_address(address(number), target))
    with trio.CancelScope() as scope:
        scope.cancel()
        await behind.dial(target, circuit_address(address(20), target))
    assert scope.cancelled_caught
    await wait_all_tasks_blocked()
    assert sorted(field.live) == sorted(behind._dialled)
    nursery.cancel_scope.cancel()


async def test_relays_dialled_for_others_are_bounded(nursery: trio.Nursery) -> None:
    """Addresses of peers name relays; a list of thousands must not make us keep them all."""
    field = Field()
    circuits = Circuits(field)
    behind = make(field, circuits=circuits)
    await nursery.start(behind.run)
    target = peer(200)
    for number in range(1, RELAYS_DIALLED_MAX + 3):
        field.there.add(address(number))
        if number <= RELAYS_DIALLED_MAX:
            circuits.open(peer(number))  # in use
        with pytest.raises(PeerUnreachable):
            await behind.dial(target, circuit_address(address(number), target))
    assert len(field.dialled) == len(field.live) == RELAYS_DIALLED_MAX
    with pytest.raises(PeerUnreachable, match="is not linked"):
        await behind.dial(target, circuit_address(f"/p2p/{peer(30)}", target))
    await wait_all_tasks_blocked()
    nursery.cancel_scope.cancel()


async def test_relay_that_does_not_answer_takes_no_room(nursery: trio.Nursery) -> None:
    field = Field()
    behind = make(field)
    await nursery.start(behind.run)
    target = peer(200)
    for number in range(1, RELAYS_DIALLED_MAX + 3):
        with pytest.raises(PeerUnreachable, match="nobody there"):
            await behind.dial(target, circuit_address(address(number), target))
    assert len(field.dialled) == RELAYS_DIALLED_MAX + 2
    nursery.cancel_scope.cancel()


async def test_relay_that_carries_nothing_gives_way_to_another(nursery: trio.Nursery) -> None:
    field = Field()
    behind = make(field)
    await nursery.start(behind.run)
    target = peer(200)
    for number in range(1, RELAYS_DIALLED_MAX + 3):
        field.there.add(address(number))
        with pytest.raises(PeerUnreachable, match="is not there"):
            await behind.dial(target, circuit_address(address(number), target))
        assert len(field.live) == min(number, RELAYS_DIALLED_MAX)
    await wait_all_tasks_blocked()
    nursery.cancel_scope.cancel()


async def test_relay_that_is_lost_is_not_redialled_for_itself(nursery: trio.Nursery) -> None:
    field = Field()
    behind = make(field)
    await nursery.start(behind.run)
    field.there.add(address(1))
    with pytest.raises(PeerUnreachable):
        await behind.dial(peer(200), circuit_address(address(1), peer(200)))
    field.lose(peer(1))
    await wait_all_tasks_blocked()
    assert field.let_go == [peer(1)]
    nursery.cancel_scope.cancel()


async def test_relay_that_comes_and_goes_while_it_is_dialled_is_counted(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was lost is a link of its own: it stays wanted, and one of those dialled for others."""
    field = Field()
    behind = make(field)
    await nursery.start(behind.run)
    connect = field.connect

    async def slowly(address: str, *, hint: str = "") -> PeerId:
        field.meet(parse_address(address).peer)
        field.lose(parse_address(address).peer)
        await wait_all_tasks_blocked()
        return await connect(address, hint=hint)

    monkeypatch.setattr(field, "connect", slowly)
    target = peer(200)
    for number in range(1, RELAYS_DIALLED_MAX + 3):
        field.there.add(address(number))
        with pytest.raises(PeerUnreachable, match="is not there"):
            await behind.dial(target, circuit_address(address(number), target))
        assert len(field.live) == min(number, RELAYS_DIALLED_MAX)
    assert len(field.let_go) == 2, "those that gave way"
    nursery.cancel_scope.cancel()


async def test_dial_before_it_runs_is_refused() -> None:
    field = Field()
    field.live.append(peer(1))
    with pytest.raises(PeerUnreachable, match="not running"):
        await make(field).dial(peer(2), circuit_address(address(1), peer(2)))
