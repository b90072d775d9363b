"""Which blocks are asked for, of whom and when; which bodies are kept; what is checked once.

Source: docs/spec/pbft.md, "Low mark". Method: a `Bench` of four cores; the test signs for 0, 1, 2.
"""

import msgspec

from prsm.consensus.pbft.certificates import is_certified, note_checked
from prsm.consensus.pbft.config import CERTIFICATES_CHECKED_MAX, FETCH_RETRY_MS, RESEND_MS
from prsm.consensus.pbft.effects import Effect, Fetch
from prsm.consensus.pbft.events import Decided, Event, Fetched, Heard, Received, Tick
from prsm.consensus.pbft.opened import open_message
from prsm.protocol.certificates import Certificate, certificate_hash
from prsm.protocol.codec import encode
from prsm.protocol.headers import Block, block_hash
from prsm.protocol.messages.consensus import SignedMessage, ViewChange
from prsm.protocol.signing import Kind
from prsm.testnet.sim.stage import Bench

HASH = bytes([9]) * 32


def asked(effects: list[Effect]) -> list[Fetch]:
    """The orders to fetch."""
    return [effect for effect in effects if isinstance(effect, Fetch)]


def shown(bench: Bench, certificate: Certificate, signer: int = 0) -> SignedMessage:
    """A VIEW_CHANGE of the height above a certificate, with it."""
    body = encode(ViewChange(certificate, None))
    height = certificate.height + 1
    return bench.sign(Kind.VIEW_CHANGE, signer, body, view=1, height=height)


def play(bench: Bench, *events: Event) -> None:
    """Let the core take events and carry out what it orders."""
    actor = bench.stage.actors[3]
    actor.state = bench.state
    for event in events:
        bench.stage.now_ms = bench.now_ms
        bench.stage.take(actor, event)


def test_certificate_that_is_known_asks_for_nothing_more() -> None:
    """It came with every VIEW_CHANGE of four members: the tick alone asks again."""
    bench = Bench()
    certificate = bench.certificate(Kind.COMMIT, HASH, height=3)
    wanted = Fetch(1, 3, None, ("peer0", "peer1", "peer2"))
    assert asked(bench.hear(shown(bench, certificate))) == [wanted]
    bench.now_ms += FETCH_RETRY_MS
    assert asked(bench.hear(shown(bench, certificate, signer=1))) == []
    assert asked(bench.take(Tick())) == [wanted]


def test_next_range_is_asked_for_with_the_last_block_of_the_one_before() -> None:
    bench, other = Bench(), Bench()
    for _ in range(2):
        other.decide()
    blocks = other.ledger.blocks
    for certificate in (blocks[1][1], bench.certificate(Kind.COMMIT, HASH, height=5)):
        play(bench, Received(open_message(shown(bench, certificate))))
    for decided, expected in (((), [(1, 2)]), (blocks[:1], []), (blocks[1:], [(3, 5)])):
        play(bench, *(Decided(*each) for each in decided), Tick())
        assert [(fetch.first, fetch.last) for _, fetch in bench.stage.fetches] == expected
        bench.stage.fetches.clear()


def test_peer_two_blocks_ahead_is_asked_at_once() -> None:
    assert asked(Bench().take(Heard("peer0", Bench.status(1)))) == []
    assert asked(Bench().take(Heard("peer0", Bench.status(2)))) == [Fetch(1, 2, None, ("peer0",))]


def test_body_that_nobody_asked_for_is_not_kept() -> None:
    """Of another hash, of another height, or another body under the right header."""
    bench = Bench()
    block = bench.block()
    header = msgspec.structs.replace(block.header, height=2)
    bench.votes(Kind.COMMIT, block_hash(block.header))
    for wrong in (
        bench.block(transactions=(b"another",)),
        Block(header, block.body),
        Block(block.header, msgspec.structs.replace(block.body, transactions=(b"t9",))),
    ):
        bench.take(Fetched(wrong))
        assert bench.state.instance.bodies == {}


def test_certificate_that_holds_is_checked_once() -> None:
    bench = Bench()
    good = bench.certificate(Kind.COMMIT, HASH)
    weak = bench.certificate(Kind.COMMIT, HASH, signers=(0, 1))
    for certificate in (weak, good):
        is_certified(bench.state, certificate, Kind.COMMIT, height=1, block_hash=HASH)
    assert list(bench.state.checked) == [certificate_hash(good)]


def test_certificates_made_of_counted_votes_are_not_checked_again() -> None:
    bench = Bench()
    bench.decide()
    digest, signers = bench.state.tip.block_hash, (0, 1, 3)
    made = [bench.certificate(Kind.PREPARE, digest, height=1, signers=signers)]
    made.append(bench.certificate(Kind.COMMIT, digest, height=1, signers=signers))
    assert list(bench.state.checked) == [certificate_hash(each) for each in made]


def test_certificates_that_were_checked_are_bounded_and_the_oldest_goes() -> None:
    bench = Bench()
    digests = [number.to_bytes(32) for number in range(CERTIFICATES_CHECKED_MAX + 1)]
    for digest in digests[:-1]:
        note_checked(bench.state, digest)
    assert list(bench.state.checked) == digests[:-1]
    note_checked(bench.state, digests[-1])
    assert list(bench.state.checked) == digests[1:]


def test_certificate_under_the_low_mark_is_not_looked_at() -> None:
    """Blocks of those heights are fetched anyway."""
    bench = Bench()
    bench.hear(shown(bench, bench.certificate(Kind.COMMIT, HASH, height=5)))
    assert (bench.state.low, bench.state.fetch_to) == (5, 5)
    assert bench.hear(shown(bench, bench.certificate(Kind.COMMIT, HASH, height=4), 1)) == []
    assert (bench.state.low, bench.state.fetch_to) == (5, 5)


def test_certificate_of_the_height_is_taken_once() -> None:
    bench = Bench()
    first = bench.hear(shown(bench, bench.certificate(Kind.COMMIT, HASH)))
    assert asked(first) == [Fetch(1, 1, HASH, ("peer0", "peer1", "peer2"))]
    held = bench.state.instance.certificate
    assert bench.hear(shown(bench, bench.certificate(Kind.COMMIT, HASH), 1)) == []
    assert bench.state.instance.certificate is held


def test_decided_block_that_is_missing_is_not_asked_for_with_each_message() -> None:
    bench = Bench()
    assert asked(bench.votes(Kind.COMMIT, block_hash(bench.block().header))) != []
    assert asked(bench.hear(bench.sign(Kind.PREPARE, 0, HASH))) == []
    assert asked(bench.take(Tick(), RESEND_MS)) != []
