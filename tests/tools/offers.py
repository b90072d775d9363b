"""A snapshot of a chain of one process: what an honest peer would show and send."""

from dataclasses import dataclass
from functools import cache
from typing import Self

from prsm.consensus.ledger.chunks import Chunk, cut
from prsm.node.chain.snapshots.evidence import Sets
from prsm.protocol.ed25519 import Ed25519Verifier
from prsm.protocol.genesis import Genesis
from prsm.protocol.messages.sync import GetChunk, GotChunk, Snapshot
from prsm.protocol.proofs import bucket_index
from prsm.protocol.transactions.payloads import Transfer
from prsm.testnet.chain import Chain, small_genesis

CHUNK_BYTES = 600  # so that a small state has several


@dataclass(frozen=True)
class Offer:
    """The snapshot of a height, and its chunks in order."""

    genesis: Genesis
    found: Snapshot
    chunks: list[Chunk]
    state: dict[bytes, bytes]

    @property
    def height(self) -> int:
        return self.found.block.header.height

    @property
    def bits(self) -> int:
        return self.genesis.parameters.tree_bits

    @property
    def sets(self) -> Sets:
        """What a fresh node knows."""
        first = self.genesis.first_validators()
        return Sets(self.genesis, Ed25519Verifier(), (first, self.genesis.validators_of(1)))

    @classmethod
    def of(cls, chain: Chain, *, size_max: int = CHUNK_BYTES) -> Self:
        """The state after the chain's tip; the chain gets one more block."""
        bits = chain.genesis.parameters.tree_bits
        state = dict(chain.ledger._state)
        pairs = sorted(state.items(), key=lambda pair: (bucket_index(pair[0], bits), pair[0]))
        chunks = sorted(cut(pairs, bits=bits, size_max=size_max), key=lambda chunk: chunk.first)
        last, after = chain.made[-1], chain.add()
        found = Snapshot(
            header=after.block.header,
            certificate=after.certificate,
            block=last.block,
            block_certificate=last.certificate,
            receipts=last.outcome.receipts,
            chunks=tuple(chunk.head for chunk in chunks),
        )
        return cls(chain.genesis, found, chunks, state)

    @property
    def full(self) -> list[int]:
        """Chunks that hold anything; nobody needs to be asked for the others."""
        return [index for index, chunk in enumerate(self.chunks) if len(chunk.raw) > 1]

    def chunk(self, ask: GetChunk) -> tuple[GotChunk, bytes]:
        """An honest answer."""
        return GotChunk(height=ask.height, index=ask.index), self.chunks[ask.index].raw


def chain_of(height: int) -> Chain:
    """A chain whose every block pays somebody new."""
    chain = Chain(small_genesis())
    while chain.ledger.height < height:
        number = chain.ledger.height + 1
        to = bytes([number]) * 32
        assert chain.send(64, Transfer(asset=0, to=to, amount=number, memo=b"")).code == 0
    return chain


@cache
def offer(height: int = 5) -> Offer:
    """The snapshot of a small chain's height."""
    return Offer.of(chain_of(height))
