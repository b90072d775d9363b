"""Valid bytes for each target: from the golden vectors, and from a chain of one process."""

import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Final

from libp2p.pubsub.pb import rpc_pb2

from prsm.consensus.ledger.chunks import cut
from prsm.consensus.ledger.records import account_key
from prsm.consensus.pbft.records import Entered, Held, Left, Locked, LowMark, Voted, pack
from prsm.node.net.bitswap import wire
from prsm.node.net.frames import DATA, HEADER, PING, SYN, WINDOW_UPDATE
from prsm.node.net.gossip import AUTHOR_PREFIX
from prsm.node.net.places import place_of
from prsm.node.peers.mdns import write_text
from prsm.protocol import merkle
from prsm.protocol.codec import Record, encode
from prsm.protocol.framing import Flow, Head, Refusal, encode_frame
from prsm.protocol.genesis import to_json
from prsm.protocol.headers import block_hash
from prsm.protocol.identity import circuit_address, peer_id_of
from prsm.protocol.messages.announce import (
    BLOCKS,
    MODELS,
    STATUS,
    Announced,
    ModelOffer,
    NewBlock,
    PeerStatus,
    TopicRules,
    key_of,
)
from prsm.protocol.messages.consensus import NewView, Prepared, Proposal, SignedMessage, ViewChange
from prsm.protocol.messages.net import GossipRecord, Heartbeat
from prsm.protocol.messages.sync import Certified, ChunkHead, Snapshot
from prsm.protocol.messages.table import MESSAGES
from prsm.protocol.proofs import InclusionProof, ProvenState, ProvenTransaction, bucket_index
from prsm.protocol.signing import Kind
from prsm.protocol.tensors import Dtype, TensorHead
from prsm.protocol.transactions.payloads import Transfer
from prsm.storage.card import encode_card
from prsm.storage.cid import Codec, hash_block
from prsm.storage.dag.dagpb import (
    File,
    PbLink,
    encode_directory,
    encode_file,
    encode_wrapped_leaf,
)
from prsm.storage.dag.unixfs import LEGACY, UNIXFS_V1_2025
from prsm.storage.manifest import encode_manifest
from prsm.storage.vectors import messages as calls
from prsm.storage.wal import Wal, _pack
from prsm.testnet.chain import Chain, Made, signer_of
from prsm.testnet.sim.disk import FaultyDisk
from tests.fuzz.targets import BITS, GENESIS, IDENTITY
from tests.tools.cards import signed_card
from tests.tools.dags import car_bytes, directory_block, file_blocks, node_block
from tests.tools.stores import manifest

VECTORS: Final = Path(__file__).parents[1] / "vectors" / "wire.json"
CORPUS: Final = Path(__file__).parent / "corpus"
NODE: Final = signer_of(3).public_key
HASH: Final = bytes(range(32))


@cache
def _vectors() -> dict[str, dict[str, dict[str, str]]]:
    found: dict[str, dict[str, dict[str, str]]] = json.loads(VECTORS.read_bytes())
    return found


@cache
def _chain() -> tuple[Chain, Made, Made]:
    """Two blocks: a transfer, and the block that shows the state after it."""
    chain = Chain(GENESIS)
    order = chain.order(64, Transfer(0, signer_of(65).public_key, 5, b""))
    return chain, chain.add(order), chain.add()


def _said(kind: Kind, body: bytes, *, height: int = 1) -> SignedMessage:
    return SignedMessage(kind, 0, height, 0, body, 1, bytes(64))


def _messages() -> Iterator[bytes]:
    known = _vectors()["messages"]
    for place, (number, _) in enumerate(MESSAGES.items()):
        if str(number) in known:
            yield bytes((place,)) + bytes.fromhex(known[str(number)]["hex"])


def _consensus() -> Iterator[bytes]:
    _, first, second = _chain()
    yield encode(_said(Kind.PREPARE, HASH))
    yield encode(_said(Kind.PROPOSE, encode(Proposal(first.block, None))))
    yield encode(_said(Kind.PROPOSE, encode(Proposal(second.block, HASH)), height=2))
    prepared = Prepared(0, HASH, first.certificate)
    change = _said(Kind.VIEW_CHANGE, encode(ViewChange(first.certificate, prepared)))
    yield encode(change)
    yield encode(_said(Kind.NEW_VIEW, encode(NewView((change,)))))


def _frames() -> Iterator[bytes]:
    known = _vectors()["messages"]
    body = encode(Heartbeat(300))
    yield encode_frame(Head(1, Flow.CALL, 91, 7, b"", body))
    yield encode_frame(Head(1, Flow.ERROR, 91, 7, b"t", encode(Refusal("busy", "later", 200))))
    yield (
        encode_frame(Head(1, Flow.ONE_WAY, 51, 0, b"", bytes.fromhex(known["51"]["hex"])), 4)
        + HASH[:4]
    )
    yield 3 * encode_frame(Head(1, Flow.REPLY, 91, 7, b"", body))


def _hello() -> Iterator[bytes]:
    said = IDENTITY.hello(["/ip4/127.0.0.1/tcp/1"])
    yield encode_frame(Head(1, Flow.ONE_WAY, 90, 0, b"", encode(said)))


def _announcements() -> Iterator[tuple[TopicRules, Record]]:
    yield BLOCKS, NewBlock(7, HASH)
    yield MODELS, ModelOffer(hash_block(b"x").raw, HASH, "minilm", "1.0.0", 5)
    yield STATUS, PeerStatus(7, HASH, 1, 2, "prsm", "eu", ("/ip4/127.0.0.1/tcp/1",))


def _gossip() -> Iterator[bytes]:
    for rules, content in _announcements():
        body = encode(Announced(key_of(content), 5, encode(content)))
        yield encode(GossipRecord(GENESIS.chain_id, rules.name, NODE, 9, body, bytes(64)))


def _pubsub() -> Iterator[bytes]:
    for record in _gossip():
        rpc = rpc_pb2.RPC()
        sent = rpc.publish.add()
        sent.data, sent.seqno, sent.signature = record, bytes(8), bytes(64)
        sent.from_id = AUTHOR_PREFIX + HASH
        sent.topicIDs.append("prsm/blocks/1")
        yield bytes(rpc.SerializeToString())
    rpc = rpc_pb2.RPC()
    rpc.subscriptions.add(subscribe=True, topicid="prsm/blocks/1")
    rpc.control.graft.add(topicID="prsm/blocks/1")
    rpc.control.ihave.add(topicID="prsm/blocks/1", messageIDs=[b"1", b"2"])
    yield bytes(rpc.SerializeToString())


def _tensors() -> Iterator[bytes]:
    for shape in ((2, 3), (), (0, 7)):
        heads = encode((TensorHead("hidden", Dtype.F32, shape), TensorHead("m", Dtype.BOOL, (1,))))
        size = TensorHead("", Dtype.F32, shape).nbytes
        yield len(heads).to_bytes(2, "big") + heads + bytes(size + 1)


def _proofs() -> Iterator[bytes]:
    chain, first, second = _chain()
    header = second.block.header
    proof = chain.ledger.prove_certified(account_key(signer_of(65).public_key, 0))
    assert proof is not None
    yield b"\0" + encode(ProvenState(proof, header, second.certificate))
    [raw] = first.block.body.transactions
    place = InclusionProof(0, 1, merkle.proof([raw], 0))
    yield b"\1" + encode(ProvenTransaction(raw, place, first.block.header, first.certificate))
    yield b"\2" + encode(proof)


@cache
def _cut() -> tuple[tuple[int, bytes, bytes], ...]:
    pairs = [(bytes((n,)) * 9, HASH[: n % 32]) for n in range(1, 200)]
    pairs.sort(key=lambda pair: (bucket_index(pair[0], BITS), pair[0]))
    made = sorted(cut(pairs, bits=BITS, size_max=2_000), key=lambda chunk: chunk.first)
    return tuple((chunk.level, chunk.root, chunk.raw) for chunk in made)


def _chunks() -> Iterator[bytes]:
    yield from (bytes((level,)) + raw for level, _, raw in _cut()[:6])


def _snapshots() -> Iterator[bytes]:
    _, first, second = _chain()
    heads = tuple(ChunkHead(level, root) for level, root, _ in _cut())
    receipts = first.outcome.receipts
    yield encode(
        Snapshot(
            second.block.header, second.certificate, first.block, first.certificate, receipts, heads
        )
    )


def _blocks() -> Iterator[bytes]:
    yield from (encode(Certified(made.block, made.certificate)) for made in _chain()[1:])


def _dag() -> Iterator[bytes]:
    raw = hash_block(b"x")
    inner = hash_block(b"y", Codec.DAG_PB)
    file = File((PbLink(raw, 5, 5), PbLink(inner, 700, 800)))
    yield b"\0" + encode_file(file, version=1)
    yield b"\1" + encode_file(File((PbLink(inner, 700, 800),)), version=0)
    yield b"\2" + encode_directory({"a.onnx": PbLink(raw, 0, 5), "b": PbLink(inner, 0, 800)})
    yield b"\3" + raw.raw
    yield from (b"\4" + text.encode() for text in (str(raw), inner.text_v0()))
    yield b"\5" + encode_wrapped_leaf(b"bytes of a file")
    yield b"\6" + encode_directory({"b": PbLink(inner, 0, 800)}, version=0)


def _car() -> Iterator[bytes]:
    for profile in (UNIXFS_V1_2025, LEGACY):
        made = {name: file_blocks(data, profile) for name, data in (("a", b"1"), ("b", b"22"))}
        inner, inner_block = directory_block({"x": made["a"][0]}, version=profile.version)
        entries = {"a": made["a"][0], "d": inner, "b": made["b"][0]}
        root, root_block = directory_block(entries, version=profile.version)
        blocks = [root_block, *made["a"][1], *made["b"][1], inner_block]
        yield b"\0" + car_bytes(root.root, blocks, version=profile.version)
        yield b"\1" + b"".join(len(raw).to_bytes(2, "big") + raw for _, raw in blocks)
        file, nodes = node_block(
            [PbLink(dag.root, dag.size, dag.tsize) for dag, _ in made.values()]
        )
        yield b"\1" + b"".join(
            len(raw).to_bytes(2, "big") + raw for _, raw in (nodes, *made["a"][1], *made["b"][1])
        )
        assert file.size == 3


def _addresses() -> Iterator[bytes]:
    peer, relay = peer_id_of(HASH), peer_id_of(NODE)
    yield b"\0" + circuit_address(f"/ip4/127.0.0.1/tcp/4001/p2p/{relay}", peer).encode()
    yield b"\0" + circuit_address(f"/p2p/{relay}", peer).encode()
    yield b"\1" + f"/ip4/127.0.0.1/tcp/4001/p2p/{peer}".encode()
    yield b"\1" + f"/ip6/::1/tcp/4001/p2p/{peer}".encode()
    place = place_of(f"/ip4/10.0.0.1/tcp/4001/p2p/{peer}")
    yield b"\2" + write_text(GENESIS.chain_id, [place])


def _bitswap() -> Iterator[bytes]:
    cids = [hash_block(b"a"), hash_block(b"b", Codec.DAG_PB)]
    head, data = wire.encode_block(cids[0].raw, b"block")
    framed = [wire.encode_wants(cids), wire.encode_wants(cids, cancel=True), head + data]
    framed.append(wire.encode_presences([(cid.raw, wire.Presence.HAVE) for cid in cids]))
    for message in framed:
        yield message[wire.read_varint(message, 0)[1] :]


def _muxer() -> Iterator[bytes]:
    opened = HEADER.pack(0, WINDOW_UPDATE, SYN, 3, 0)
    yield opened + HEADER.pack(0, DATA, 0, 3, 100) + HEADER.pack(0, PING, SYN, 0, 7)


def _records() -> Iterator[bytes]:
    _, first, _ = _chain()
    change = _said(Kind.VIEW_CHANGE, encode(ViewChange(None, None)))
    digest = block_hash(first.block.header)
    yield pack(LowMark(4, None))
    yield pack(LowMark(9, first.certificate))
    yield pack(Voted(Kind.PREPARE, 0, 1, 0, digest))
    yield pack(Held(1, first.block))
    yield pack(Locked(0, 1, 0, first.certificate, None))
    yield pack(Locked(0, 1, 0, first.certificate, first.block))
    yield pack(Left(0, 3, 1))
    yield pack(Entered(_said(Kind.NEW_VIEW, encode(NewView((change,))))))


def _log() -> Iterator[bytes]:
    disk = FaultyDisk(0)
    wal, _ = Wal.open(disk, "log")
    yield b"\0" + disk.contents("log")
    for record in _records():
        wal.append([record])
        yield b"\1" + _pack([record])
    yield b"\0" + disk.contents("log")


def _vectors_frames() -> Iterator[bytes]:
    labels = (("task", "a"), ("size", 7))
    asked = (calls.Asked("task", "=", "a"), calls.Asked("size", "<=", 9))
    yield calls.pack(calls.Put((calls.PutEntry(b"id", bytes(8), labels),)))
    yield calls.pack(calls.Search(bytes(8), 5, asked))
    yield calls.pack(calls.Listed((calls.Found(b"id", -5, labels),)))
    yield calls.pack(calls.Refused("conflict", "what", "hint"))


_MADE: Final[dict[str, Callable[[], Iterator[bytes]]]] = {
    "frames": _frames,
    "messages": _messages,
    "consensus": _consensus,
    "hello": _hello,
    "transactions": lambda: (bytes.fromhex(v["hex"]) for v in _vectors()["transactions"].values()),
    "gossip": _gossip,
    "pubsub": _pubsub,
    "receipts": lambda: iter([bytes.fromhex(_vectors()["chain"]["work_receipt"]["hex"])]),
    "tensors": _tensors,
    "proofs": _proofs,
    "chunks": _chunks,
    "snapshots": _snapshots,
    "blocks": _blocks,
    "manifest": lambda: iter([encode_manifest(manifest())]),
    "card": lambda: iter([encode_card(signed_card())]),
    "vectors": _vectors_frames,
    "versions": lambda: iter(
        [b"\x001.0.0-rc.1+b", b"\x01^1.2 || >=2.0.0-a <3", b"\x02org/m@~1.2", b"\x02m@beta"]
    ),
    "dag": _dag,
    "car": _car,
    "addresses": _addresses,
    "muxer": _muxer,
    "bitswap": _bitswap,
    "log": _log,
    "records": _records,
    "genesis": lambda: iter([to_json(GENESIS)]),
}


@cache
def seeds(name: str) -> tuple[bytes, ...]:
    """Bytes that the target takes for good."""
    return tuple(_MADE[name]())


def found(name: str) -> tuple[bytes, ...]:
    """Bytes that once made the target fail, and must not again."""
    return tuple(path.read_bytes() for path in sorted((CORPUS / name).glob("*")))
