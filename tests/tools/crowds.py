"""Many addresses with owners, for tests of the address book and of selection: no sockets."""

import random

from prsm.node.net.addresses import AddressBook, Kind
from prsm.node.net.places import Place, place_of
from prsm.protocol.identity import peer_id_of
from prsm.protocol.signing import sha256

NOW_MS = 1_800_000_000_000
KEY = b"k" * 32


def place(number: int, *, ip: str | None = None, port: int = 4410) -> Place:
    """The place of peer `number`; without `ip` in a /16 of its own (up to 20,000 of them)."""
    peer = peer_id_of(sha256(b"peer", number.to_bytes(8, "big")))
    if ip is None:
        ip = f"{20 + number // 200}.{number % 200 + 1}.{number * 7 % 250}.{number * 13 % 250 + 1}"
    return place_of(f"/ip4/{ip}/tcp/{port}/p2p/{peer}")


def known(
    places: list[Place], *, since_ms: int = NOW_MS, dice: random.Random | None = None
) -> AddressBook:
    """A book in which all of them answered once, told by a source each."""
    book = AddressBook(KEY)
    for number, one in enumerate(places):
        book.learn(one, source=f"s{number}", kind=Kind.EXCHANGE, now_ms=since_ms)
        rtt_ms = dice.randrange(1, 200) if dice else 0
        book.succeeded(one.text, now_ms=since_ms, rtt_ms=rtt_ms)
    return book
