"""Quotes: a price a worker binds itself to, for one account, until a moment of block time.

The worker keeps nothing: its own signature is what it honours when a quote comes back with an
opening. The requester keeps them until they expire. Source: docs/spec/work.md, "Quotes".
"""

import logging
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

import msgspec
import trio

from prsm.node.inference.capacity import ANSWER_S, Standing
from prsm.node.inference.interface import Chain, WorkRefused
from prsm.node.net.interface import Answer, Channel, Incoming, Network
from prsm.protocol.codec import decode
from prsm.protocol.ed25519 import Ed25519Verifier, Verifier
from prsm.protocol.errors import BadSignature, PrsmError, RemoteError, WireError
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.quotes import (
    QUOTE_BYTES_MAX,
    AskQuote,
    Quote,
    quote_statement,
)

QUOTE_MS: Final = 120_000  # block time; a lock takes a second, a person some tens
KEPT_MAX: Final = 1_024

log = logging.getLogger(__name__)


class QuoteExpired(WorkRefused):
    """The quote an opening refers to was valid until an earlier block time."""

    reason = "quote_expired"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a quote is for: rows of one stage of a split."""

    model: bytes
    stages: int
    rows: int


class QuoteDesk:
    """Answers `AskQuote` for this node."""

    def __init__(
        self,
        network: Network,
        chain: Chain,
        *,
        standing: Callable[[], Standing],
        valid_ms: int = QUOTE_MS,
    ) -> None:
        self._network, self._chain, self._standing = network, chain, standing
        self._valid_ms = valid_ms
        network.on_call(AskQuote, self._answer)

    async def _answer(self, incoming: Incoming) -> Answer:
        await trio.lowlevel.checkpoint()
        ask = incoming.message
        assert isinstance(ask, AskQuote)
        unsigned = Quote(
            worker=self._chain.address,
            requester=ask.requester,
            model=ask.model,
            stages=ask.stages,
            rows=ask.rows,
            price_per_row=self._standing().price_per_row,
            valid_until_ms=self._chain.deadline_ms(self._valid_ms),
            nonce=ask.nonce,
            signature=bytes(64),
        )
        statement = quote_statement(unsigned, chain_id=self._chain.chain_id)
        signature = self._chain.signer.sign(statement)
        return msgspec.structs.replace(unsigned, signature=signature), b""


def honoured_price(raw: bytes, *, chain: Chain, requester: bytes, asked: Asked) -> int | None:
    """The price this node bound itself to, by the quote that came with an opening.

    Args:
        raw: canonical bytes of the quote; empty for none.
        chain: our own account and block time.
        requester: the account that locked the job.
        asked: what the unit is.

    Returns:
        None when there is no quote of ours for that: today's price holds.

    Raises:
        QuoteExpired: it was valid until an earlier block time.
        WireError: no canonical quote.
    """
    if not raw:
        return None
    quote = decode(raw, Quote, size_max=QUOTE_BYTES_MAX)
    ours = (chain.address, requester, asked.model, asked.stages)
    is_for = (quote.worker, quote.requester, quote.model, quote.stages) == ours
    statement = quote_statement(quote, chain_id=chain.chain_id)
    if not is_for or not Ed25519Verifier().verify(quote.worker, statement, quote.signature):
        return None
    if asked.rows > quote.rows:
        return None
    if chain.block_time_ms() > quote.valid_until_ms:
        raise QuoteExpired(
            f"the quote was valid until {quote.valid_until_ms}, block time is "
            f"{chain.block_time_ms()}",
            hint="ask for a new quote",
        )
    return quote.price_per_row


@dataclass(slots=True)
class QuoteBook:
    """The quotes this node was given, until they expire."""

    _kept: dict[tuple[bytes, bytes, int], Quote] = field(default_factory=dict)

    def keep(self, quote: Quote) -> None:
        """Keep a quote; one a worker, model and split, the oldest goes first."""
        key = (quote.worker, quote.model, quote.stages)
        self._kept.pop(key, None)
        while len(self._kept) >= KEPT_MAX:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = quote

    def find(self, worker: bytes, asked: Asked, *, time_ms: int) -> Quote | None:
        """A quote that still holds for that."""
        quote = self._kept.get((worker, asked.model, asked.stages))
        if quote is None or time_ms > quote.valid_until_ms or asked.rows > quote.rows:
            return None
        return quote


async def ask_quote(
    network: Network, chain: Chain, verifier: Verifier, peer: PeerId, asked: Asked
) -> Quote:
    """Ask one peer; the caller sets the deadline.

    Raises:
        PeerUnreachable: it is not connected.
        CallRefused: it does not work for others.
        RemoteError: an answer of another kind or for something else, or not signed.
    """
    nonce = secrets.token_bytes(16)
    ask = AskQuote(
        requester=chain.address,
        model=asked.model,
        stages=asked.stages,
        rows=asked.rows,
        nonce=nonce,
    )
    quote, _ = await network.call(peer, ask, channel=Channel.CTL)
    if not isinstance(quote, Quote):
        raise WireError(f"{type(quote).__name__} is no quote", peer=peer)
    said = (quote.requester, quote.model, quote.stages, quote.rows, quote.nonce)
    if said != (chain.address, asked.model, asked.stages, asked.rows, nonce):
        raise WireError("a quote for something else", peer=peer)
    statement = quote_statement(quote, chain_id=chain.chain_id)
    if not verifier.verify(quote.worker, statement, quote.signature):
        raise BadSignature("a quote its account did not sign", peer=peer, penalty=50)
    return quote


async def ask_quotes(
    network: Network, chain: Chain, verifier: Verifier, peers: Iterable[PeerId], asked: Asked
) -> dict[PeerId, Quote]:
    """Ask some peers at once; those that do not answer in time are left out."""
    found: dict[PeerId, Quote] = {}

    async def ask(peer: PeerId) -> None:
        try:
            found[peer] = await ask_quote(network, chain, verifier, peer, asked)
        except PrsmError as error:
            log.debug("no quote of %s: %s", peer, error.what)
            if isinstance(error, RemoteError) and error.penalty:
                network.penalise(peer, error)

    with trio.move_on_after(ANSWER_S):
        async with trio.open_nursery() as nursery:
            for peer in peers:
                nursery.start_soon(ask, peer)
    return found
