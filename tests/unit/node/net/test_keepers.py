"""Wanted peers are dialled again, and sooner when another one is back."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

from functools import partial

import pytest
import trio
from trio.testing import MockClock

from prsm.node.net.interface import PeerUnreachable
from prsm.node.net.keepers import VIA, Keepers
from prsm.protocol.errors import WrongChain
from prsm.protocol.ids import PeerId

US, LOW, HIGH = PeerId("m"), PeerId("a"), PeerId("z")


class Field:
    """Peers that are there or not, and when each was dialled."""

    def __init__(self) -> None:
        self.there: set[PeerId] = set()
        self.foreign: set[PeerId] = set()
        self.addresses: list[str] = []
        self.linked: set[PeerId] = set()
        self.dials: dict[PeerId, list[float]] = {LOW: [], HIGH: []}
        self.takes_s = 0.0
        self.keepers = Keepers(US, self.reach, self.linked.__contains__)

    async def reach(self, peer: PeerId, address: str) -> None:
        self.addresses.append(address)
        self.dials[peer].append(trio.current_time())
        with trio.CancelScope(shield=True):  # a connection is closed before its dial ends
            await trio.sleep(self.takes_s)
        await trio.lowlevel.checkpoint()
        if peer in self.foreign:
            raise WrongChain("another network")
        if peer not in self.there:
            raise PeerUnreachable("nobody")
        self.linked.add(peer)
        self.keepers.hear()

    async def want(self, peer: PeerId, address: str = "somewhere", *, hint: str = "") -> None:
        try:
            await self.keepers.connect(peer, address, hint=hint)
        except (PeerUnreachable, WrongChain):
            return


async def test_partition_heals_everywhere_once_one_link_is_back(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Pauses of ten seconds at different phases: the second peer is dialled with the first."""
    field = Field()
    field.keepers.start(nursery)
    await field.want(LOW)
    await trio.sleep(4)
    await field.want(HIGH)
    await trio.sleep(45)
    field.there |= {LOW, HIGH}
    await trio.sleep(11)
    assert field.linked == {LOW, HIGH}
    assert abs(field.dials[LOW][-1] - field.dials[HIGH][-1]) <= 0.6
    nursery.cancel_scope.cancel()


async def test_lost_peer_is_dialled_after_the_first_pause(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    field = Field()
    field.keepers.start(nursery)
    field.there.add(LOW)
    await field.want(LOW)
    await trio.sleep(60)
    assert len(field.dials[LOW]) == 1
    lost = trio.current_time()
    field.linked.clear()
    field.keepers.lose()
    await trio.sleep(1)
    assert field.dials[LOW][1:] == [lost + 0.2]
    assert field.linked == {LOW}
    nursery.cancel_scope.cancel()


async def test_peer_of_another_network_and_one_not_wanted_are_let_be(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    field = Field()
    field.keepers.start(nursery)
    field.foreign.add(HIGH)
    await field.want(HIGH)
    await field.want(LOW)
    await trio.sleep(1)
    field.keepers.forget(LOW)
    dialled = len(field.dials[LOW])
    await trio.sleep(60)
    assert len(field.dials[HIGH]) == 1
    assert len(field.dials[LOW]) == dialled
    assert not field.keepers.wanted
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("written", ["", VIA])
async def test_what_the_owner_wrote_is_kept_although_it_speaks_another_protocol(
    nursery: trio.Nursery, autojump_clock: MockClock, written: str
) -> None:
    """A linked peer comes back with a later program, then with one both understand.

    It is dialled every five minutes, whoever else comes; one that a hint led to is let go.
    """
    field = Field()
    field.keepers.start(nursery)
    field.there |= {LOW, HIGH}
    await field.want(LOW, "configured", hint=written)
    await field.want(LOW, "told", hint="test")
    await field.want(HIGH, "told", hint="test")
    field.foreign |= {LOW, HIGH}
    field.linked.clear()
    field.keepers.lose()
    await trio.sleep(60)
    field.keepers.hear()
    await trio.sleep(200)
    assert [len(field.dials[peer]) for peer in (LOW, HIGH)] == [2 + 1, 1 + 1]
    assert field.keepers.wanted == {LOW: "configured"}
    assert field.keepers.forget(LOW, hint="test") is False
    field.foreign.clear()
    await trio.sleep(60)
    assert field.linked == {LOW}
    nursery.cancel_scope.cancel()


async def test_peer_that_was_refused_and_dials_us_itself_is_kept_as_any_other(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Its link is lost again long before the five minutes are over."""
    field = Field()
    field.keepers.start(nursery)
    field.there.add(LOW)
    await field.want(LOW)
    field.foreign.add(LOW)
    field.linked.clear()
    field.keepers.lose()
    await trio.sleep(60)
    field.foreign.clear()
    field.linked.add(LOW)
    field.keepers.hear()
    await trio.sleep(1)
    lost = trio.current_time()
    field.linked.clear()
    field.keepers.lose()
    await trio.sleep(1)
    assert field.dials[LOW][-1] == lost + 0.2
    nursery.cancel_scope.cancel()


async def test_hint_neither_moves_nor_ends_what_is_wanted(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """A configured peer is down; a stranger names it at an address of his own."""
    field = Field()
    field.keepers.start(nursery)
    await field.want(LOW, "configured")
    await field.want(LOW, "told", hint="test")
    assert not field.keepers.forget(LOW, hint="test")
    await trio.sleep(60)
    assert field.addresses.count("told") == 1
    assert field.addresses[-1] == field.keepers.wanted[LOW] == "configured"
    nursery.cancel_scope.cancel()


async def test_what_the_owner_wrote_goes_before_what_was_told(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Whatever came first; each of the owner's wishes stays when the other one ends."""
    field = Field()
    field.keepers.start(nursery)
    field.there.add(LOW)
    for where, hint in (("told", "test"), ("written", VIA), ("configured", "")):
        await field.want(LOW, where, hint=hint)
        assert field.keepers.wanted == {LOW: where}
    assert not field.keepers.forget(LOW)
    assert field.keepers.wanted == {LOW: "written"}
    nursery.cancel_scope.cancel()


async def test_hint_that_leads_nowhere_is_not_followed_again(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    field = Field()
    field.keepers.start(nursery)
    await field.want(LOW, hint="test")
    await trio.sleep(60)
    assert len(field.dials[LOW]) == 1
    assert not field.keepers.wanted
    nursery.cancel_scope.cancel()


async def test_owner_takes_over_what_a_hint_began(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    field = Field()
    field.keepers.start(nursery)
    field.there.add(LOW)
    await field.want(LOW, "told", hint="test")
    await field.want(LOW, "configured")
    assert not field.keepers.forget(LOW, hint="test")
    assert field.keepers.wanted == {LOW: "configured"}
    assert field.keepers.forget(LOW)
    assert not field.keepers.wanted
    nursery.cancel_scope.cancel()


async def test_owner_who_gives_up_waiting_leaves_a_hint_a_hint(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    field = Field()
    field.keepers.start(nursery)
    field.there.add(LOW)
    await field.want(LOW, "told", hint="test")
    with trio.CancelScope() as scope:
        scope.cancel()
        await field.want(LOW)
    assert field.keepers.forget(LOW, hint="test")
    assert not field.keepers.wanted
    nursery.cancel_scope.cancel()


async def test_owner_who_gives_up_waiting_leaves_nobody_to_dial_on(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """A hint was dialled when the owner asked for the same peer; it failed, and the owner left."""
    field = Field()
    field.takes_s = 5
    field.keepers.start(nursery)
    nursery.start_soon(partial(field.want, LOW, "told", hint="test"))
    await trio.sleep(1)
    with trio.move_on_after(4.5):
        await field.want(LOW, "configured")
    dialled = len(field.dials[LOW])
    await trio.sleep(60)
    assert len(field.dials[LOW]) == dialled == 2
    assert not field.keepers.wanted
    nursery.cancel_scope.cancel()


async def test_each_ends_only_its_own_wish(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    field = Field()
    field.keepers.start(nursery)
    field.there.add(LOW)
    await field.want(LOW, "found", hint="discovery")
    await field.want(LOW, "told", hint="relay")
    assert not field.keepers.forget(LOW, hint="relay")
    assert field.keepers.wanted == {LOW: "found"}
    assert not field.keepers.forget(LOW), "the owner wished nothing"
    assert field.keepers.forget(LOW, hint="discovery")
    nursery.cancel_scope.cancel()


async def test_peer_that_is_wanted_anew_has_one_keeper(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """It is given up while it is dialled, by another dial and by the keeper that is ending."""
    field = Field()
    field.takes_s = 1
    field.there.add(LOW)
    field.keepers.start(nursery)
    nursery.start_soon(partial(field.want, LOW, hint="test"))
    await trio.sleep(0.5)
    field.keepers.forget(LOW, hint="test")
    await field.want(LOW, hint="test")
    await trio.sleep(0.1)
    assert len(field.keepers._lost) == 1
    field.linked.clear()
    field.there.clear()
    field.keepers.lose()
    await trio.sleep(0.5)  # its keeper dials, and is slow to end
    field.keepers.forget(LOW, hint="test")
    field.there.add(LOW)
    await field.want(LOW, hint="test")
    await trio.sleep(3)
    assert len(field.keepers._lost) == 1
    nursery.cancel_scope.cancel()


async def test_peer_given_up_in_the_moment_it_is_due_is_not_dialled(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    field = Field()
    field.keepers.start(nursery)
    await field.want(LOW)
    await field.want(HIGH)
    await trio.sleep(15)
    dialled = len(field.dials[LOW])
    field.keepers._redials._due_s[LOW] = trio.current_time()
    field.keepers._hastened.unpark_all()
    field.keepers.forget(LOW)
    await trio.sleep(60)
    assert len(field.dials[LOW]) == dialled
    nursery.cancel_scope.cancel()
