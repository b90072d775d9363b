"""What a Byzantine node makes up: claims, certificates and messages that must not be believed.

Each function returns what may be tried; admission or the core refuses it. Knows: the key of
the one who lies; of others only what they said, here or on another chain.
"""

from collections.abc import Iterator
from random import Random
from typing import TYPE_CHECKING, Final

import msgspec

from prsm.consensus.pbft.opened import Opened
from prsm.consensus.pbft.state import State
from prsm.protocol import merkle
from prsm.protocol.certificates import Certificate, certificate_hash, certify
from prsm.protocol.codec import Record, decode, encode
from prsm.protocol.headers import Block, Body, Header, block_hash
from prsm.protocol.limits import BULK_FRAME_BYTES_MAX, CTL_FRAME_BYTES_MAX
from prsm.protocol.messages.consensus import (
    NewView,
    Prepared,
    Proposal,
    SignedMessage,
    Status,
    ViewChange,
    sign_message,
)
from prsm.protocol.messages.sync import Certified, GotBlock, GotBlocks, Snapshot
from prsm.protocol.signing import Kind, sha256
from prsm.testnet.sim.snapshots import FakeChunk, FakeShown, FakeWalk

if TYPE_CHECKING:
    from prsm.testnet.sim.node import Node

FOREIGN_CHAIN: Final = b"another!"
FLOOD: Final = 12  # messages at a time


def claim(node: "Node", message: SignedMessage) -> bytes:
    """Body of a VIEW_CHANGE that claims a block nobody prepared."""
    change = decode(message.body, ViewChange, size_max=CTL_FRAME_BYTES_MAX)
    state = node.state
    assert state is not None
    block = fresh_block(state, message.signer, max(0, message.view - 1))
    digest = block_hash(block.header)
    view = max(0, message.view - 1)
    certificate = certify(
        Kind.PREPARE,
        epoch=message.epoch,
        height=message.height,
        view=view,
        block_hash=digest,
        votes=dict.fromkeys(
            range(len(state.validators)), node.signer_in(message.epoch).sign(digest)
        ),
    )
    return encode(ViewChange(change.tip_cert, Prepared(view, digest, certificate)))


def crown(node: "Node", message: SignedMessage, chain_id: bytes) -> list[SignedMessage]:
    """NEW_VIEWs that count the own VIEW_CHANGE again and again, or count too few; a proposal.

    Only for a view this node leads.
    """
    state = node.state
    assert state is not None
    if state.instance.schedule.at(message.view) != state.instance.own:
        return []
    made: list[SignedMessage] = []
    for parts in ((message,) * len(state.validators), (message,)):
        body = encode(NewView(parts))
        crowned = _signed(node, message, Kind.NEW_VIEW, body, chain_id)
        block = fresh_block(state, message.signer, message.view)
        proposal = encode(Proposal(block, sha256(body)))
        made += [crowned, _signed(node, message, Kind.PROPOSE, proposal, chain_id)]
    return made


def flood(
    node: "Node", message: SignedMessage, dice: Random, chain_id: bytes
) -> Iterator[SignedMessage]:
    """Votes of heights and views that nobody has reached, far ahead and just ahead."""
    place = node.world.roster.place_of(message.epoch, node.index)
    if place is None:
        return
    for _ in range(FLOOD):
        ahead = msgspec.structs.replace(
            message,
            kind=dice.choice((Kind.PREPARE, Kind.COMMIT)),
            height=message.height + dice.randint(0, 40),
            view=message.view + dice.randint(0, 40),
            body=sha256(b"%d" % dice.randrange(4)),
            signer=place[0],
        )
        yield sign_message(ahead, place[1], chain_id)


def foreign(nodes: "list[Node]", message: SignedMessage, dice: Random) -> Iterator[SignedMessage]:
    """What validators with the same keys said on another chain."""
    digest = sha256(b"foreign %d" % message.height)
    for node in nodes:
        kind = dice.choice((Kind.PREPARE, Kind.COMMIT))
        place = node.world.roster.place_of(message.epoch, node.index)
        if place is not None:
            vote = msgspec.structs.replace(message, kind=kind, body=digest, signer=place[0])
            yield sign_message(vote, place[1], FOREIGN_CHAIN)


def relabelled(opened: Opened) -> SignedMessage:
    """Somebody's PREPARE as their COMMIT, and the other way round."""
    message = opened.message
    other = Kind.COMMIT if message.kind is Kind.PREPARE else Kind.PREPARE
    return msgspec.structs.replace(message, kind=other)


def record(sent: Record, dice: Random) -> Record:
    """A status of heights that are none, blocks that are others than certified."""
    match sent:
        case Status():
            height = max(0, sent.height + dice.randint(-2, 100))
            held = sent.snapshot_height and dice.choice((sent.snapshot_height, height))
            return msgspec.structs.replace(
                sent, height=height, low_mark=height, snapshot_height=held
            )
        case GotBlocks() | GotBlock(Block()):
            return _other_blocks(sent, dice)
        case FakeShown(height, proof):
            return FakeShown(height, _other_snapshot(proof, dice))
        case FakeWalk(first, epochs) if epochs:
            weak = msgspec.structs.replace(epochs[-1], certificate=_weak(epochs[-1].certificate))
            return FakeWalk(first, (*epochs[:-1], weak) if dice.random() < 0.7 else ())
        case FakeChunk():
            return _other_chunk(sent, dice)
        case _:
            return sent


def fresh_block(state: State, proposer: int, view: int) -> Block:
    """An empty block on the tip, well-formed in everything."""
    tip = state.tip
    parent_ms = 0 if tip.block is None else tip.block.header.time_ms
    header = Header(
        version=1,
        chain_id=state.config.chain_id,
        height=tip.height + 1,
        view=view,
        epoch=state.validators.epoch,
        prev_hash=tip.block_hash,
        prev_cert_hash=certificate_hash(tip.certificate),
        tx_root=merkle.root(()),
        state_root=tip.state_root,
        receipts_root=tip.receipts_root,
        validators_hash=tip.validators.digest,
        next_validators_hash=tip.epoch.following_hash,
        evidence_root=merkle.root(()),
        time_ms=max(state.now_ms, parent_ms + 1),
        proposer=proposer,
    )
    return Block(header, Body(tip.certificate, (), ()))


def _other_blocks(sent: GotBlocks | GotBlock, dice: Random) -> Record:
    """Blocks that are not what was certified, or a body that is not its header's."""
    if isinstance(sent, GotBlocks):
        return GotBlocks(tuple(_spoilt(raw, dice) for raw in sent.blocks))
    assert sent.block is not None
    # The header is the one whose hash was named.
    body = msgspec.structs.replace(sent.block.body, transactions=(b"another",))
    return GotBlock(msgspec.structs.replace(sent.block, body=body))


def _spoilt(raw: bytes, dice: Random) -> bytes:
    """Another block under the certificate, or the block under a bad certificate."""
    certified = decode(raw, Certified, size_max=BULK_FRAME_BYTES_MAX)
    block, certificate = certified.block, certified.certificate
    if dice.random() < 0.5:
        time_ms = block.header.time_ms + 1
        block = Block(msgspec.structs.replace(block.header, time_ms=time_ms), block.body)
        certificate = msgspec.structs.replace(certificate, block_hash=block_hash(block.header))
    else:
        certificate = _weak(certificate)
    return encode(Certified(block, certificate))


def _other_snapshot(sent: Snapshot, dice: Random) -> Snapshot:
    """A state nobody agreed on under an honest header, or one that too few have signed."""
    chunks, header = sent.chunks, sent.header
    root = sha256(chunks[0].root)
    made = (msgspec.structs.replace(chunks[0], root=root), *chunks[1:])
    match dice.randrange(5):
        case 0:
            return msgspec.structs.replace(sent, chunks=made)
        case 1:
            # Its own root is the state before its block: the header of the next one counts.
            header = msgspec.structs.replace(sent.block.header, height=header.height)
            return msgspec.structs.replace(sent, header=header, chunks=made)
        case 2:
            return msgspec.structs.replace(sent, certificate=_weak(sent.certificate))
        case 3:
            return msgspec.structs.replace(sent, block_certificate=_weak(sent.block_certificate))
        case _:
            return msgspec.structs.replace(sent, receipts=(*sent.receipts, b""))


def _other_chunk(sent: FakeChunk, dice: Random) -> FakeChunk:
    """One bit flipped, money in another place, or nothing at all."""
    raw = bytearray(sent.raw)
    raw[dice.randrange(len(raw))] ^= 1 << dice.randrange(8)
    return msgspec.structs.replace(sent, raw=dice.choice((bytes(raw), b"\x90", sent.raw[:-1])))


def _weak(certificate: Certificate) -> Certificate:
    """With one signature instead of a quorum's."""
    signer, signature = certificate.signer_indexes()[0], certificate.signatures[0]
    return certify(
        certificate.kind,
        epoch=certificate.epoch,
        height=certificate.height,
        view=certificate.view,
        block_hash=certificate.block_hash,
        votes={signer: signature},
    )


def _signed(
    node: "Node", message: SignedMessage, kind: Kind, body: bytes, chain_id: bytes
) -> SignedMessage:
    unsigned = msgspec.structs.replace(message, kind=kind, body=body)
    return sign_message(unsigned, node.signer_in(message.epoch), chain_id)
