"""Peer exchange: what is told, what is taken, and what hostile answers bring."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

import random
from dataclasses import dataclass, field

import pytest
import trio
from trio.testing import MockClock
from typing_extensions import override

from prsm.node.clock import TrioClock
from prsm.node.net.addresses import AddressBook
from prsm.node.net.interface import Busy, Incoming, PeerInfo, PeerUnreachable
from prsm.node.net.places import Place, place_of
from prsm.node.peers.exchange import ANSWERS_BURST, OWN_TAKEN_MAX, TOLD_ALL_MAX, Exchange, Teller
from prsm.protocol.errors import WireError
from prsm.protocol.identity import circuit_address
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import ADDRESSES_TOLD_MAX
from prsm.protocol.messages.exchange import GetAddresses, GotAddresses
from tests.tools.crowds import KEY, known, place
from tests.tools.wires import Wire

ASKER, OURS = place(1), place(2)
LOCAL = place(3, ip="127.0.0.1")
INSIDE = place(4, ip="10.0.0.4")


@dataclass
class Probed(Wire):
    """A network of one live peer at a given address; probes reach what `there` says."""

    infos: list[PeerInfo] = field(default_factory=list)
    there: set[str] = field(default_factory=set)
    probes: list[str] = field(default_factory=list)

    @override
    def peers(self) -> tuple[PeerInfo, ...]:
        return tuple(self.infos)

    @override
    async def probe(self, address: str) -> PeerId:
        await trio.lowlevel.checkpoint()
        self.probes.append(address)
        if address not in self.there:
            raise PeerUnreachable("nobody")
        return ASKER.peer


def linked(where: Place) -> PeerInfo:
    return PeerInfo(where.peer, where.text, outbound=False, since_ms=0, rtt_ms=7, agent="")


def make(
    book: AddressBook,
    peer: Place = ASKER,
    own: tuple[Place, ...] = (OURS,),
    trusted: frozenset[PeerId] = frozenset(),
) -> tuple[Exchange, Probed]:
    network = Probed(OURS.peer, infos=[linked(peer)])
    teller = Teller("eu", lambda: [one.text for one in own], trusted)
    exchange = Exchange(network, book, teller, clock=TrioClock(), dice=random.Random(1))
    return exchange, network


def recently(places: list[Place]) -> AddressBook:
    return known(places, since_ms=TrioClock().wall_ms())


def asking(peer: Place = ASKER, count: int = ADDRESSES_TOLD_MAX) -> Incoming:
    return Incoming(peer=peer.peer, message=GetAddresses(count=count), tail=b"", trace=b"")


async def ask(exchange: Exchange, peer: Place = ASKER, count: int = 64) -> GotAddresses:
    answer, _ = await exchange._answer(asking(peer, count))
    assert isinstance(answer, GotAddresses)
    return answer


def told(*others: Place, own: tuple[Place, ...] = ()) -> GotAddresses:
    texts = tuple(one.text for one in others)
    return GotAddresses(region="us", own=tuple(one.text for one in own), others=texts)


async def test_answer_names_ourselves_and_whom_we_reached() -> None:
    exchange, _ = make(recently([place(5), place(6)]))
    got = await ask(exchange)
    assert (got.region, got.own) == ("eu", (OURS.text,))
    assert set(got.others) == {place(5).text, place(6).text}


async def test_asker_is_not_told_of_itself_and_gets_no_more_than_it_wants() -> None:
    exchange, _ = make(recently([ASKER, place(5), place(6)]))
    assert ASKER.text not in (await ask(exchange)).others
    assert len((await ask(exchange, count=1)).others) == 1
    assert (await ask(exchange, count=0)).others == ()


async def test_public_peer_hears_no_private_address() -> None:
    own = (LOCAL, INSIDE, OURS)
    exchange, network = make(recently([LOCAL, INSIDE, place(5)]), own=own)
    got = await ask(exchange)
    assert (got.own, got.others) == ((OURS.text,), (place(5).text,))
    network.infos = [linked(LOCAL)]
    got = await ask(exchange, LOCAL)
    assert set(got.own) == {one.text for one in own}
    assert set(got.others) == {INSIDE.text, place(5).text}


async def test_own_address_behind_a_relay_is_probed_only_where_that_is_linked() -> None:
    """Nobody else is dialled because a stranger named him, and the address is no failure."""
    behind = place_of(circuit_address(place(7).text, ASKER.peer))
    book = AddressBook(KEY, us=OURS.peer)
    exchange, network = make(book)
    await exchange._take(ASKER.peer, told(own=(behind,)), chosen=False)
    entry = book.get(behind.text)
    assert (network.probes, entry and entry.failures) == ([], 0)
    network.infos.append(linked(place(7)))
    await exchange._take(ASKER.peer, told(own=(behind,)), chosen=False)
    assert network.probes == [behind.text]


async def test_asking_often_is_refused_with_a_time(autojump_clock: MockClock) -> None:
    exchange, _ = make(recently([place(5)]))
    for _ in range(ANSWERS_BURST):
        await ask(exchange)
    with pytest.raises(Busy) as busy:
        await ask(exchange)
    assert busy.value.retry_after_ms == 60_000
    await ask(exchange, place(9))  # of another peer
    await trio.sleep(61)
    await ask(exchange)


async def test_asking_often_shows_no_more_of_a_large_book() -> None:
    """Two peers and many questions: the same fourth of 200 addresses, for an hour."""
    exchange, _ = make(recently([place(n) for n in range(10, 210)]))
    seen = {text for _ in range(4) for text in (await ask(exchange)).others}
    seen |= {text for _ in range(4) for text in (await ask(exchange, place(9))).others}
    assert TOLD_ALL_MAX <= len(seen) <= 50


async def test_others_are_taken_from_chosen_peers() -> None:
    book = AddressBook(KEY, us=OURS.peer)
    exchange, _ = make(book)
    await exchange._take(ASKER.peer, told(place(5), OURS), chosen=True)
    assert [entry.place for entry in book] == [place(5)]
    assert not book.tried(), "told is not verified"


async def test_others_of_a_peer_that_dialled_are_a_fault() -> None:
    book = AddressBook(KEY)
    exchange, _ = make(book)
    with pytest.raises(WireError, match="nobody asked"):
        await exchange._take(ASKER.peer, told(place(5)), chosen=False)
    assert len(book) == 0


async def test_address_of_another_peer_as_its_own_is_a_fault() -> None:
    book = AddressBook(KEY)
    exchange, network = make(book)
    with pytest.raises(WireError, match="as its own"):
        await exchange._take(ASKER.peer, told(own=(place(5),)), chosen=True)
    assert (len(book), network.probes) == (0, [])


async def test_own_address_of_a_peer_is_dialled_before_others_hear_of_it() -> None:
    book = AddressBook(KEY)
    exchange, network = make(book)
    elsewhere = place(1, port=9)
    network.there = {ASKER.text}
    await exchange._take(ASKER.peer, told(own=(ASKER, elsewhere)), chosen=False)
    assert network.probes == [ASKER.text, elsewhere.text]
    assert [entry.place for entry in book.tried()] == [ASKER]
    assert book.tried()[0].region == "us"
    network.infos.append(linked(place(9)))
    assert (await ask(exchange, place(9))).others == (ASKER.text,)


async def test_own_addresses_cost_a_bounded_number_of_dials() -> None:
    exchange, network = make(AddressBook(KEY))
    crowd = tuple(place(1, port=100 + n) for n in range(8))
    await exchange._take(ASKER.peer, told(own=crowd), chosen=False)
    await exchange._take(ASKER.peer, told(own=crowd), chosen=False)
    assert len(network.probes) == OWN_TAKEN_MAX


async def test_public_peer_cannot_make_us_dial_inside() -> None:
    """Addresses of loopback and of private networks are neither kept nor dialled."""
    book = AddressBook(KEY)
    exchange, network = make(book)
    inside = place(1, ip="127.0.0.1"), place(1, ip="192.168.0.1")
    await exchange._take(ASKER.peer, told(LOCAL, INSIDE, own=inside), chosen=True)
    assert (len(book), network.probes) == (0, [])
    network.infos = [linked(LOCAL)]
    await exchange._take(LOCAL.peer, told(INSIDE), chosen=True)
    assert [entry.place for entry in book] == [INSIDE]


async def test_only_trusted_peers_are_taken() -> None:
    book = AddressBook(KEY)
    exchange, _ = make(book, trusted=frozenset({ASKER.peer, place(5).peer}))
    await exchange._take(ASKER.peer, told(place(5), place(6)), chosen=True)
    assert [entry.place for entry in book] == [place(5)]


async def test_junk_among_addresses_is_left_out() -> None:
    book = AddressBook(KEY)
    exchange, _ = make(book)
    junk = ("/ip4/0.0.0.0/tcp/1", "nonsense", "/dns4/example.org/tcp/1", place(5).text)
    await exchange._take(ASKER.peer, GotAddresses("", (), junk), chosen=True)
    assert [entry.place for entry in book] == [place(5)]


async def test_another_answer_is_a_fault_and_a_lost_peer_is_none() -> None:
    exchange, network = make(AddressBook(KEY))
    with pytest.raises(WireError, match="no answer"):
        await exchange._take(ASKER.peer, GetAddresses(count=1), chosen=True)
    network.infos = []
    await exchange._take(ASKER.peer, told(place(5)), chosen=True)
