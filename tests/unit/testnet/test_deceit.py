"""What leaves a validator that lies: the file decides, message by message; no network runs."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from prsm.node.home import Home
from prsm.node.keys import read_public_keys
from prsm.node.net.interface import Channel, Network
from prsm.protocol.codec import Record, decode, encode
from prsm.protocol.ed25519 import Ed25519Verifier
from prsm.protocol.genesis import Genesis, from_json
from prsm.protocol.headers import block_hash
from prsm.protocol.ids import PeerId, Signature
from prsm.protocol.limits import CTL_FRAME_BYTES_MAX
from prsm.protocol.messages.consensus import (
    Proposal,
    SignedMessage,
    Status,
    message_digest,
    statement_of,
)
from prsm.protocol.signing import Kind, sha256
from prsm.testnet.chain import Chain, small_genesis
from prsm.testnet.deceit import deceive, lie_of, set_lie
from prsm.testnet.faults import Lie
from prsm.testnet.launch import create

PEERS = [PeerId(f"peer{number}") for number in range(8)]


@dataclass
class Told:
    """A network that keeps what it is given."""

    sent: list[tuple[PeerId, Record]] = field(default_factory=list)

    def send_nowait(
        self,
        peer: PeerId,
        message: Record,
        *,
        channel: Channel,
        tail: bytes = b"",
        trace: bytes = b"",
    ) -> bool:
        del channel, tail, trace
        self.sent.append((peer, message))
        return True

    def peers(self) -> tuple[str, ...]:
        return ("all of them",)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return create(tmp_path / "net", 1).nodes[0].home


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def say(home: Home, told: Told) -> Callable[[Record], list[Record]]:
    network = deceive(home, cast("Network", told))

    def send(message: Record) -> list[Record]:
        told.sent.clear()
        for peer in PEERS:
            network.send_nowait(peer, message, channel=Channel.CTL)
        return [record for _, record in told.sent]

    return send


def vote(kind: Kind, body: bytes) -> SignedMessage:
    return SignedMessage(kind, 0, 1, 0, body, 0, Signature(bytes(64)))


def proposal() -> SignedMessage:
    block = Chain(small_genesis()).propose()
    return vote(Kind.PROPOSE, encode(Proposal(block, None)))


def status() -> Status:
    return Status(3, 0, sha256(b"tip"), 0, 0, 1, None)


def is_signed(message: Record, home: Home) -> bool:
    assert isinstance(message, SignedMessage)
    genesis: Genesis = from_json(home.genesis.read_bytes())
    said = statement_of(message, message_digest(message.kind, message.body), genesis.chain_id)
    key = read_public_keys(home).consensus
    return Ed25519Verifier().verify(key, said, message.signature)


def test_honest_node_says_what_it_was_told(say: Callable[[Record], list[Record]]) -> None:
    """No file, or a word that is no lie: nothing is changed."""
    assert say(vote(Kind.PREPARE, bytes(32))) == [vote(Kind.PREPARE, bytes(32))] * len(PEERS)


def test_everything_else_is_the_networks_own(home: Home, told: Told) -> None:
    """Only what leaves can lie."""
    assert len(deceive(home, cast("Network", told)).peers()) == 1


def test_file_decides_and_may_come_and_go(
    home: Home, say: Callable[[Record], list[Record]]
) -> None:
    """While the node runs; an unknown word is no lie."""
    set_lie(home, Lie.SILENT)
    assert lie_of(home) is Lie.SILENT
    assert say(vote(Kind.COMMIT, bytes(32))) == []
    assert say(status()) == []
    set_lie(home, None)
    assert len(say(status())) == len(PEERS)
    (home.root / "lie").write_text("nonsense")
    assert lie_of(home) is None


@pytest.mark.parametrize("kind", [Kind.PREPARE, Kind.COMMIT])
def test_two_votes_for_one_place_reach_every_peer(
    home: Home, say: Callable[[Record], list[Record]], kind: Kind
) -> None:
    """Both signed; half of the peers hear the second story first."""
    set_lie(home, Lie.EQUIVOCATE)
    honest = vote(kind, bytes(32))
    said = say(honest)
    assert len(said) == 2 * len(PEERS)
    others = {each.body for each in said if isinstance(each, SignedMessage)} - {honest.body}
    assert len(others) == 1
    assert all(is_signed(each, home) for each in said if each != honest)
    first = [each == honest for each in said[::2]]
    assert any(first)
    assert not all(first)


def test_two_blocks_for_one_place(home: Home, say: Callable[[Record], list[Record]]) -> None:
    """Another time, and so another hash; both may be valid."""
    set_lie(home, Lie.EQUIVOCATE)
    bodies = {each.body for each in say(proposal()) if isinstance(each, SignedMessage)}
    hashes = {
        block_hash(decode(body, Proposal, size_max=CTL_FRAME_BYTES_MAX).block.header)
        for body in bodies
    }
    assert len(hashes) == 2


def test_bad_block_has_a_root_nobody_computes(
    home: Home, say: Callable[[Record], list[Record]]
) -> None:
    """Only proposals are spoilt; votes and status stay."""
    set_lie(home, Lie.BAD_BLOCKS)
    honest = proposal()
    (spoilt,) = set(say(honest))
    assert isinstance(spoilt, SignedMessage)
    assert is_signed(spoilt, home)
    before = decode(honest.body, Proposal, size_max=CTL_FRAME_BYTES_MAX).block
    after = decode(spoilt.body, Proposal, size_max=CTL_FRAME_BYTES_MAX).block
    assert before.header.state_root != after.header.state_root
    assert before.body == after.body
    assert say(vote(Kind.PREPARE, bytes(32)))[0] == vote(Kind.PREPARE, bytes(32))
    assert say(status())[0] == status()


def test_view_changes_are_not_doubled(home: Home, say: Callable[[Record], list[Record]]) -> None:
    """Two of them for a place are no offence a ledger knows."""
    set_lie(home, Lie.EQUIVOCATE)
    change = vote(Kind.VIEW_CHANGE, b"")
    assert say(change) == [change] * len(PEERS)
