"""Holders of deals for tests of the ledger: a file in memory, its commitment, answers from it.

The dumb twin of `storage/dag/pieces`: the whole tree is built anew for every answer.
"""

from collections.abc import Container
from random import Random

import msgspec

from prsm.protocol import merkle
from prsm.protocol.custody import asked, nodes_needed
from prsm.protocol.ids import Digest
from prsm.protocol.limits import CELL_BYTES
from prsm.protocol.transactions.custody import Accept, Entrust, Grant, Prove, deal_id
from prsm.protocol.transactions.results import Code
from prsm.testnet.chain import Chain, signer_of

CLIENT, HOLDER, ANYBODY = 64, 65, 66
SIZE = 40_000
ROUND_MS = 300_000


def key(number: int) -> bytes:
    return signer_of(number).public_key


class File:
    """Bytes, their cells and the levels of their tree."""

    def __init__(self, size: int = SIZE, seed: int = 1) -> None:
        raw = Random(seed).randbytes(size)
        self.size = size
        self.cells = [raw[at : at + CELL_BYTES] for at in range(0, size, CELL_BYTES)]
        self.levels: list[list[Digest]] = [[merkle.leaf_hash(cell) for cell in self.cells]]
        while len(row := self.levels[-1]) > 1:
            paired = [merkle.node_hash(row[i], row[i + 1]) for i in range(0, len(row) - 1, 2)]
            self.levels.append(paired + row[len(row) & ~1 :])

    @property
    def root(self) -> bytes:
        return self.levels[-1][0]

    def show(self, places: tuple[int, ...], lost: Container[int] = ()) -> tuple[bytes, bytes]:
        """Cells and nodes; a lost cell is answered with zeros."""
        cells = (bytes(len(self.cells[p])) if p in lost else self.cells[p] for p in places)
        needed = nodes_needed(places, len(self.cells))
        return b"".join(cells), b"".join(self.levels[level][place] for level, place in needed)


def terms_of(file: File, **changes: object) -> Entrust:
    """Terms of a deal about a file: 1,000 micro-FTNS a round, 20 rounds, 100,000 of collateral."""
    terms = Entrust(
        salt=bytes(32),
        root=bytes.fromhex("01551220") + bytes(32),
        size=file.size,
        tree=file.root,
        holder=key(HOLDER),
        price=1_000,
        rounds=20,
        collateral=100_000,
        grant=None,
    )
    return msgspec.structs.replace(terms, **changes)


def granted(terms: Entrust, proposal: bytes, copies: int) -> Entrust:
    """The same terms, paid by a grant."""
    return msgspec.structs.replace(terms, price=0, grant=Grant(proposal=proposal, copies=copies))


def begin(chain: Chain, terms: Entrust, *, client: int = CLIENT, holder: int = HOLDER) -> bytes:
    """Entrust and accept; returns the id of the deal."""
    assert chain.send(client, terms).code is Code.DONE
    identity = deal_id(chain.genesis.chain_id, key(client), terms)
    assert chain.send(holder, Accept(identity)).code is Code.DONE
    return identity


def turn(chain: Chain, rounds: int = 1) -> int:
    """Let rounds go by, each in ten blocks; returns the number of the present one."""
    present = chain.ledger.view.custody_round()
    assert present is not None
    for _ in range(rounds):
        before = present.number
        for step in range(10):
            chain.add(step_ms=ROUND_MS if step == 9 else 1)
        while present.number == before:
            chain.add(step_ms=1)
            present = chain.ledger.view.custody_round()
            assert present is not None
    return present.number


def answer_of(
    chain: Chain, file: File, deal: bytes, lost: Container[int] = (), number: int | None = None
) -> Prove:
    """The answer of who holds a file, but for the lost cells, to the present round."""
    present = chain.ledger.view.custody_round()
    assert present is not None
    cells, nodes = file.show(asked(present.seed, deal, file.size), lost)
    return Prove(
        deal=deal, round=present.number if number is None else number, cells=cells, nodes=nodes
    )
