"""The door for announcements: hostile records field by field, shares, clocks, listeners."""

from collections.abc import Callable

import msgspec
import pytest

from prsm.node.net.delivery import Fate
from prsm.node.peers import announce
from prsm.node.peers.announce import Announcement
from prsm.protocol.codec import Record, encode
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.announce import (
    BLOCKS,
    CAPACITY,
    MODELS,
    STATUS,
    Announced,
    CapacityBeacon,
    ModelOffer,
    NewBlock,
    PeerStatus,
    beacon_statement,
)
from tests.tools.announced import CHAIN, GossipWire, SetClock, announcer, peer, signed, signer

NOW = 1_000_000
BRINGER = PeerId("12D3KooWbringer")
AUTHOR = signer(1)
CONTENT = encode(NewBlock(height=3, block_hash=b"h" * 32))


def body(content: bytes = CONTENT, key: bytes = b"", sequence: int = 1) -> bytes:
    return encode(Announced(key=key, sequence=sequence, content=content))


def good(**fields: object) -> bytes:
    return encode(signed(AUTHOR, made_ms=NOW, **fields))


def beacon(made_ms: int, *, author: bytes | None = None, chain: bytes = CHAIN) -> CapacityBeacon:
    payer = signer(50)
    unsigned = CapacityBeacon(
        worker=payer.public_key,
        price_per_row=5,
        slots=4,
        slots_free=2,
        waiting_ms=0,
        memory_bytes=2**30,
        runtime="onnxruntime 1.31.1",
        region="eu",
        models=(),
        classes=(),
        signature=bytes(64),
    )
    statement = beacon_statement(
        unsigned, chain_id=chain, author=author or AUTHOR.public_key, made_ms=made_ms
    )
    return msgspec.structs.replace(unsigned, signature=payer.sign(statement))


def test_good_record_is_passed_on_once_and_told() -> None:
    wire = GossipWire()
    mine = announcer(wire)
    heard: list[Announcement] = []
    mine.listen(BLOCKS.name, heard.append)
    assert wire.gossip[BLOCKS.name](BRINGER, good()) is True
    assert wire.gossip[BLOCKS.name](BRINGER, good()) is None
    (one,) = heard
    assert (one.peer, one.content) == (peer(1), NewBlock(height=3, block_hash=b"h" * 32))
    assert (one.made_ms, one.expires_ms) == (NOW, NOW + BLOCKS.ttl_ms)
    assert mine.current(BLOCKS.name) == heard
    assert mine.delivery[BLOCKS.name].fates == {Fate.STALE: 1}
    assert wire.penalties == []


def broken_signature() -> bytes:
    record = signed(AUTHOR, made_ms=NOW)
    return encode(msgspec.structs.replace(record, signature=bytes(64)))


def other_author() -> bytes:
    return good(author=bytes(signer(2).public_key))


@pytest.mark.parametrize(
    ("make", "points"),
    [
        (lambda: b"", 10),
        (lambda: b"\xff" * 100, 10),
        (lambda: good()[:-1], 10),
        (lambda: good() + b"\0", 10),
        (lambda: bytes(65_537), 40),
        (lambda: good(chain=b"testnet2"), 10),
        (lambda: good(topic=STATUS.name), 10),
        (lambda: good(topic="prsm/nothing/1"), 10),
        (broken_signature, 40),
        (other_author, 40),
        (lambda: good(author=bytes(32)), 40),
        (lambda: good(author=b"\1" + bytes(31)), 40),
        (lambda: good(body=b""), 10),
        (lambda: good(body=b"\x80"), 10),
        (lambda: good(body=CONTENT), 10),
        (lambda: good(body=body(b"")), 10),
        (lambda: good(body=body(CONTENT + b"\0")), 10),
        (lambda: good(body=body(key=b"k")), 10),
        (lambda: good(body=encode((b"k" * 65, 1, CONTENT))), 10),
        (lambda: good(body=encode((b"", -1, CONTENT))), 10),
        (lambda: good(body=encode((b"", 2**63, CONTENT))), 10),
        (lambda: good(body=body(b"x" * (BLOCKS.content_bytes_max + 1))), 40),
        (lambda: good(body=body(encode((3, b"short")))), 10),
        (lambda: good(body=body(encode((-3, b"h" * 32)))), 10),
    ],
)
def test_hostile_record_is_refused_and_costs_points(make: Callable[[], bytes], points: int) -> None:
    """The mesh counts ten for each refusal; what is worse is counted here."""
    wire = GossipWire()
    mine = announcer(wire)
    assert wire.gossip[BLOCKS.name](BRINGER, make()) is False
    assert mine.current(BLOCKS.name) == []
    assert len(mine.store) == 0
    assert mine.delivery[BLOCKS.name].fates == {Fate.REFUSED: 1}
    assert [(who, error.penalty) for who, error in wire.penalties] == [(BRINGER, points)]


def test_true_record_that_came_on_another_topic_is_refused() -> None:
    """Else one topic would carry, and pay for, the records of all."""
    wire = GossipWire()
    mine = announcer(wire)
    assert wire.gossip[STATUS.name](BRINGER, good()) is False
    assert wire.gossip[BLOCKS.name](BRINGER, good()) is True
    assert mine.delivery[STATUS.name].fates == {Fate.REFUSED: 1}


@pytest.mark.parametrize("field", ["worker", "price_per_row", "slots", "memory_bytes"])
def test_beacon_changed_after_its_account_signed_it_is_refused(field: str) -> None:
    wire = GossipWire()
    mine = announcer(wire)
    true = beacon(NOW)
    changed = signer(51).public_key if field == "worker" else 77
    lie = msgspec.structs.replace(true, **{field: changed})
    for content, verdict in ((lie, False), (true, True)):
        raw = good(topic=CAPACITY.name, body=body(encode(content)))
        assert wire.gossip[CAPACITY.name](BRINGER, raw) is verdict
    assert [each.content for each in mine.current(CAPACITY.name)] == [true]


@pytest.mark.parametrize(
    "stolen",
    [
        beacon(NOW - 1),
        beacon(NOW, author=signer(2).public_key),
        beacon(NOW, chain=b"testnet2"),
    ],
    ids=["of another moment", "of another node", "of another network"],
)
def test_beacon_of_another_record_is_refused(stolen: CapacityBeacon) -> None:
    wire = GossipWire()
    announcer(wire)
    raw = good(topic=CAPACITY.name, body=body(encode(stolen)))
    assert wire.gossip[CAPACITY.name](BRINGER, raw) is False


@pytest.mark.parametrize(
    ("made_ms", "fate"),
    [
        (NOW + announce.EARLY_MS + 1, Fate.EARLY),
        (2**63 - 1, Fate.EARLY),
        (NOW - BLOCKS.ttl_ms, Fate.EXPIRED),
        (0, Fate.EXPIRED),
    ],
)
def test_record_of_another_time_is_left_and_nobodys_fault(made_ms: int, fate: Fate) -> None:
    """A node whose clock is wrong must not ban all others."""
    wire = GossipWire()
    mine = announcer(wire)
    raw = encode(signed(AUTHOR, made_ms=made_ms))
    assert wire.gossip[BLOCKS.name](BRINGER, raw) is None
    assert mine.delivery[BLOCKS.name].fates == {fate: 1}
    assert wire.penalties == []


def test_peer_has_a_share_of_signature_checks_and_others_have_theirs() -> None:
    wire, clock = GossipWire(), SetClock()
    mine = announcer(wire, clock=clock)
    gossip = wire.gossip[BLOCKS.name]
    verdicts = [gossip(BRINGER, encode(signed(signer(n), made_ms=NOW))) for n in range(1, 150)]
    assert verdicts.count(True) == announce.CHECKS_BURST
    assert verdicts.count(None) == 149 - announce.CHECKS_BURST
    other = PeerId("12D3KooWother")
    assert gossip(other, encode(signed(signer(149), made_ms=NOW))) is True
    clock.now_ms += 50
    assert gossip(BRINGER, encode(signed(signer(148), made_ms=NOW))) is True
    assert wire.penalties == []
    assert mine.delivery[BLOCKS.name].fates[Fate.UNCHECKED] == 149 - announce.CHECKS_BURST


def test_old_news_cost_no_share() -> None:
    wire = GossipWire()
    announcer(wire)
    gossip = wire.gossip[BLOCKS.name]
    gossip(BRINGER, good())
    assert {gossip(BRINGER, good()) for _ in range(500)} == {None}
    assert gossip(BRINGER, encode(signed(signer(2), made_ms=NOW))) is True


async def test_own_records_are_stamped_apart_and_count_at_once() -> None:
    wire = GossipWire()
    mine = announcer(wire)
    heard: list[Announcement] = []
    mine.listen(MODELS.name, heard.append)
    offers = [
        ModelOffer(
            manifest=bytes([number]) * 36,
            pinned_sha256=b"p" * 32,
            name="m",
            semver="1",
            size_bytes=number,
        )
        for number in (1, 2)
    ]
    for offer in offers:
        await mine.publish(MODELS.name, offer)
    records = [msgspec.msgpack.decode(raw) for _, raw in wire.published]
    assert [record[3] for record in records] == [NOW, NOW + 1]
    assert [each.content for each in heard] == offers
    assert [each.key for each in mine.current(MODELS.name)] == [b"\1" * 36, b"\2" * 36]
    assert mine.delivery[MODELS.name].published == 2
    assert {wire.gossip[MODELS.name](BRINGER, raw) for _, raw in wire.published} == {None}


def test_clock_that_was_set_back_is_believed_again() -> None:
    clock = SetClock(now_ms=NOW + 3_600_000)
    mine = announcer(GossipWire(), clock=clock)
    assert mine.stamp(BLOCKS.name) == (NOW + 3_600_000, 1)
    clock.now_ms = NOW + 3_590_000  # a few seconds: order comes first
    assert mine.stamp(BLOCKS.name) == (NOW + 3_600_001, 2)
    clock.now_ms = NOW
    assert mine.stamp(BLOCKS.name) == (NOW, 3)


async def test_what_one_publishes_another_takes() -> None:
    """Longest bodies of every topic."""
    longest: dict[str, Record] = {
        STATUS.name: PeerStatus(
            height=2**63 - 1,
            head=b"h" * 32,
            protocol=2**32 - 1,
            schema=2**32 - 1,
            agent="a" * 64,
            region="r" * 64,
            addresses=("x" * 256,) * 8,
        ),
        MODELS.name: ModelOffer(
            manifest=b"m" * 36,
            pinned_sha256=b"p" * 32,
            name="n" * 64,
            semver="s" * 64,
            size_bytes=2**63 - 1,
        ),
    }
    for topic, content in longest.items():
        one, two = GossipWire(), GossipWire()
        announcer(two, 2)
        await announcer(one, 1).publish(topic, content)
        ((_, raw),) = one.published
        assert two.gossip[topic](BRINGER, raw) is True


def test_listener_that_fails_stops_nobody() -> None:
    wire = GossipWire()
    mine = announcer(wire)
    heard: list[Announcement] = []

    def fail(_announcement: Announcement) -> None:
        raise ValueError

    mine.listen(BLOCKS.name, fail)
    mine.listen(BLOCKS.name, heard.append)
    assert wire.gossip[BLOCKS.name](BRINGER, good()) is True
    assert len(heard) == 1


def test_strangers_do_not_push_out_a_known_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty strangers for each place; the one connected peer stays."""
    monkeypatch.setattr(announce, "RECORDS_MAX", 4)
    wire = GossipWire()
    mine = announcer(wire)
    wire.up(peer(1))
    gossip = wire.gossip[BLOCKS.name]
    gossip(BRINGER, good())
    for number in range(2, 82):
        bringer = PeerId(f"12D3KooW{number}")
        gossip(bringer, encode(signed(signer(number), made_ms=NOW + number)))
    authors = {each.author for each in mine.current(BLOCKS.name)}
    assert len(authors) == 4
    assert AUTHOR.public_key in authors
