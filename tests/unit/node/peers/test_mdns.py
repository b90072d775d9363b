"""Hints of the local network: what is said, what is believed, and two nodes on loopback."""

from collections.abc import Callable

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from prsm.node.clock import TrioClock
from prsm.node.net.places import Place, Scope
from prsm.node.net.scores import TokenBucket
from prsm.node.peers.mdns import (
    ADDRESSES_MAX,
    HINTS_BURST,
    WAITING_MAX,
    Card,
    Mdns,
    local_places,
    read_text,
    write_text,
)
from tests.tools.crowds import place

CHAIN, OTHER = b"testnet1", b"testnet2"
LOCAL = place(1, ip="127.0.0.1")
INSIDE = place(2, ip="10.1.2.3")
OUTSIDE = place(3)


def test_text_survives_its_record() -> None:
    assert read_text(write_text(CHAIN, [LOCAL, INSIDE]), CHAIN) == [LOCAL, INSIDE]


def test_text_of_another_chain_is_ignored() -> None:
    assert read_text(write_text(OTHER, [LOCAL]), CHAIN) == []


def test_public_addresses_are_neither_said_nor_believed() -> None:
    """Who shares a network with us must not make us dial outside of it."""
    assert read_text(write_text(CHAIN, [OUTSIDE]), CHAIN) == []
    assert local_places([OUTSIDE.text]) == []


def test_addresses_of_one_name_are_bounded() -> None:
    crowd = [place(n, ip="127.0.0.1", port=1000 + n) for n in range(20)]
    assert len(read_text(write_text(CHAIN, crowd), CHAIN)) == ADDRESSES_MAX


def test_private_addresses_are_said_before_loopback_ones() -> None:
    assert local_places([LOCAL.text, INSIDE.text]) == [INSIDE]
    assert local_places([LOCAL.text]) == [LOCAL]


def test_unspecified_address_stands_for_those_of_the_interfaces() -> None:
    said = local_places([LOCAL.text.replace("127.0.0.1", "0.0.0.0")])
    assert all(one.scope is Scope.PRIVATE for one in said)


@given(st.binary(max_size=600))
def test_junk_is_no_hint(junk: bytes) -> None:
    assert read_text(junk, CHAIN) == []


def mdns(hear: Callable[[Place], object], own: Place = LOCAL) -> Mdns:
    def addresses() -> list[str]:
        trio.current_time()  # as a node's: only the loop may ask
        return [own.text]

    card = Card(own.peer, CHAIN, addresses)
    return Mdns(card, hear, clock=TrioClock(), interfaces=["127.0.0.1"])


async def test_names_are_heard_once_and_not_faster_than_the_rate() -> None:
    heard: list[Place] = []
    one = mdns(heard.append)
    one._bucket = TokenBucket(rate_per_s=1, burst=HINTS_BURST, now_ms=TrioClock().monotonic_ms())
    for number in range(3 * HINTS_BURST):
        crowd = [place(100 + number, ip="127.0.0.1", port=1000 + number)]
        for _ in range(2):
            assert one._room.acquire(blocking=False)
            one._take(f"name {number}", write_text(CHAIN, crowd))
    assert len(heard) <= HINTS_BURST + 1
    assert len({one.text for one in heard}) == len(heard)
    assert all(one._room.acquire(blocking=False) for _ in range(WAITING_MAX))


async def test_own_announcement_is_no_hint() -> None:
    heard: list[Place] = []
    one = mdns(heard.append)
    one._bucket = TokenBucket(rate_per_s=1, burst=9, now_ms=TrioClock().monotonic_ms())
    one._take("name", write_text(CHAIN, [LOCAL]))
    assert heard == []


@pytest.mark.slow
async def test_two_nodes_on_loopback_hear_of_each_other() -> None:
    """Real zeroconf on the loopback interface only; its threads end with the run."""
    heard: dict[str, Place] = {}
    met = trio.Event()

    def hear(who: str, one: Place) -> None:
        heard[who] = one
        if len(heard) == 2:
            met.set()

    two = place(4, ip="127.0.0.1", port=4411)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mdns(lambda one: hear("one", one), LOCAL).run)
            nursery.start_soon(mdns(lambda one: hear("two", one), two).run)
            await met.wait()
            nursery.cancel_scope.cancel()
    assert heard == {"one": two, "two": LOCAL}
