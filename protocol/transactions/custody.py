"""Payloads of custody: entrust a file to a holder, accept, prove, report a lapse, release.

A deal binds one holder to one file for a number of rounds. Amounts are micro-FTNS; rounds are
those of the ledger. The rules are `consensus/ledger/custody`; what a proof shows is
`protocol/custody`. Source: docs/spec/ledger.md, "Custody".
"""

from typing import Annotated

import msgspec

from prsm.protocol.codec import Record, encode
from prsm.protocol.ids import Bytes32, Digest, UInt
from prsm.protocol.limits import (
    CELL_BYTES,
    CELLS_ASKED,
    COPIES_MAX,
    DEAL_BYTES_MAX,
    DEAL_ROUNDS_MAX,
    PROOF_NODES_MAX,
)
from prsm.protocol.messages.models import CidBytes
from prsm.protocol.signing import DEAL_TAG, sha256


class Grant(Record, frozen=True):
    """An enacted proposal by which the treasury pays, for at most so many copies."""

    proposal: Bytes32
    copies: Annotated[int, msgspec.Meta(ge=1, le=COPIES_MAX)]


class Entrust(Record, frozen=True):
    """Offer a deal to a holder; its id is the hash of all of this and the sender, its client."""

    salt: Bytes32  # tells apart two deals of the same terms
    root: CidBytes  # of the file
    size: Annotated[int, msgspec.Meta(ge=1, le=DEAL_BYTES_MAX)]
    tree: Bytes32  # root over the file's cells
    holder: Bytes32  # who keeps it, answers and is paid
    price: UInt  # for each round that was proven; 0 if a grant pays
    rounds: Annotated[int, msgspec.Meta(ge=1, le=DEAL_ROUNDS_MAX)]
    collateral: UInt  # what the holder locks: missed rounds and wrong answers take from it
    grant: Grant | None


class Accept(Record, frozen=True):
    """The holder takes a deal and locks its collateral; the next round is the first."""

    deal: Bytes32


class Prove(Record, frozen=True):
    """The holder's answer to the present round."""

    deal: Bytes32
    round: UInt
    cells: Annotated[bytes, msgspec.Meta(min_length=1, max_length=CELLS_ASKED * CELL_BYTES)]
    nodes: Annotated[bytes, msgspec.Meta(max_length=PROOF_NODES_MAX * 32)]


class Lapse(Record, frozen=True):
    """Say that the holder of a deal did not answer in rounds that are over. Anyone may."""

    deal: Bytes32


class Release(Record, frozen=True):
    """Give a deal up: its client before it was accepted, its holder at the price of a miss."""

    deal: Bytes32


def deal_id(chain_id: bytes, client: bytes, payload: Entrust) -> Digest:
    """Name of a deal: it commits to the network, the client and all terms."""
    return sha256(DEAL_TAG, encode((chain_id, client, payload)))


def grant_text(payload: Entrust, copies: int) -> str:
    """Return the text a proposal must have for the treasury to pay such deals."""
    return (
        f"storage of {payload.root.hex()} ({payload.size} bytes, cells {payload.tree.hex()}): "
        f"{copies} copies for {payload.rounds} rounds"
    )
