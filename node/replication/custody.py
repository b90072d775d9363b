"""This node's deals: it answers what the ledger asks of its files, and watches what it entrusted.

Each round of the ledger it opens the cells of every deal it holds, checks its own answer as the
ledger would, and puts it into the outbox; a file that is damaged gives no answer, since a wrong
one costs five times a missing one. Of deals it is the client of it reports missed rounds. Knows:
deals, rounds, files of the store. Must not know: who is asked for a file that is lost.
Source: docs/spec/ledger.md, "Custody".
"""

import functools
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import trio

from prsm.consensus.ledger.context import DealChanged
from prsm.consensus.ledger.custody import COLLATERAL_ROUNDS_MIN
from prsm.consensus.ledger.custody_records import Deal, DealStatus, Round
from prsm.consensus.ledger.errors import refusal
from prsm.node.chain.driver import Driver, Head
from prsm.node.chain.outbox import Outbox, Sent
from prsm.node.chain.wallet import Wallet
from prsm.node.telemetry import logs
from prsm.protocol.codec import Record
from prsm.protocol.custody import asked, is_shown
from prsm.protocol.errors import LocalError
from prsm.protocol.ids import TxId
from prsm.protocol.transactions.custody import (
    Accept,
    Entrust,
    Grant,
    Lapse,
    Prove,
    Release,
    deal_id,
)
from prsm.protocol.transactions.payloads import ACCEPT, ENTRUST, LAPSE, PROVE, RELEASE
from prsm.protocol.transactions.results import Code
from prsm.storage.cid import Cid, decode_cid
from prsm.storage.dag.pieces import PieceTree, Shown, answer, commit_file, decode_tree, encode_tree
from prsm.storage.errors import NotFound
from prsm.storage.store.model_store import ModelStore

log = logs.get("custody")

HOLD: Final = "custody"  # owner of the pins of files in our keeping
_T = TypeVar("_T")
TREES_MAX: Final = 64  # commitments kept in memory, 32 KiB for a GiB each


class UnknownDeal(LocalError):
    """The ledger has no such deal."""

    reason = "deal_not_found"


class DealMismatch(LocalError):
    """A deal whose commitment is not that of the file it names: nobody could ever answer it."""

    reason = "deal_mismatch"


@dataclass(frozen=True, slots=True)
class Offer:
    """What a client offers a holder for a file.

    Attributes:
        root: of the file, which is in the client's store.
        holder: account.
        price: micro-FTNS for each proven round; 0 with a grant.
        rounds: how many.
        collateral: micro-FTNS the holder locks; None for the least there may be.
        grant: an enacted proposal by which the treasury pays.
    """

    root: Cid
    holder: bytes
    price: int
    rounds: int
    collateral: int | None = None
    grant: Grant | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """A deal as this node sees it; `why` says what stood in the way of its last answer."""

    deal: Deal
    is_holder: bool
    is_client: bool
    why: str


class Custody:
    """Deals of one account.

    Args:
        driver: of the node.
        wallet: the account.
        outbox: where answers and reports wait.
        store: where the files are.
        folder: for commitments; made if it is not there.
    """

    def __init__(
        self, driver: Driver, wallet: Wallet, outbox: Outbox, store: ModelStore, folder: Path
    ) -> None:
        self._driver, self._wallet, self._outbox = driver, wallet, outbox
        self._store, self._folder = store, folder
        self._mine: set[bytes] = set()
        self._why: dict[bytes, str] = {}
        self._trees: dict[bytes, PieceTree] = {}
        self._round = -1  # the last one that was heard of
        self._height: int | None = None  # up to which deals are known; None: look at them all
        self._told: dict[bytes, int] = {}  # deal -> round that was answered or reported on
        self._limiter = trio.CapacityLimiter(1)
        self._news = trio.Event()
        driver.on_head.append(self._hear_head)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Answer and report with each round, until cancelled."""
        self._height = None
        self._find_ours()
        task_status.started()
        while True:
            self._news = trio.Event()
            await self.look()
            await self._news.wait()

    async def look(self) -> None:
        """Do what is due in the present round."""
        self._find_ours()
        view = self._driver.ledger.view
        present = view.custody_round()
        await self._let_go()
        for identity in sorted(self._mine):
            deal = view.deal(identity)
            if present is not None and deal is not None and deal.is_active:
                await self._tend(deal, present)

    async def offer(self, offer: Offer) -> tuple[bytes, TxId]:
        """Hash a file and offer a deal about it; returns the deal's id and the transaction.

        Raises:
            NotFound, Corrupt: the file is not here, or damaged.
            CannotWait: no validator answers.
            WalletLocked: nobody unlocked the key.
            LocalError: the ledger's refusal.
        """
        self._outbox.check_now("an offer")
        tree = await self._commit(offer.root)
        least = COLLATERAL_ROUNDS_MIN * offer.price
        payload = Entrust(
            salt=secrets.token_bytes(32),
            root=offer.root.raw,
            size=tree.size,
            tree=tree.root,
            holder=offer.holder,
            price=offer.price,
            rounds=offer.rounds,
            collateral=least if offer.collateral is None else offer.collateral,
            grant=offer.grant,
        )
        tx_id = await self._wallet.submit(ENTRUST, payload)
        chain_id = self._driver.ledger.genesis.chain_id
        return deal_id(chain_id, self._wallet.address, payload), tx_id

    async def accept(self, deal: bytes) -> Sent:
        """Take a deal: hash the file, keep it, and lock the collateral; it may wait.

        Raises:
            UnknownDeal: there is none.
            NotFound, Corrupt: its file is not here whole; pull it first.
            DealMismatch: the file is another one than the client says.
            LocalError: the wallet's or the ledger's refusal; another one is its holder.
        """
        terms = self._deal(deal).terms
        if terms.holder != self._wallet.address:
            raise refusal(Code.NOT_HOLDER)  # before it is hashed and kept: it would stay so
        root = decode_cid(terms.root)
        # Until it is pinned: nobody removes what has just been found to be here.
        async with self._store.leases.hold(root, holder="custody", purpose="accept"):
            tree = await self._commit(root)
            if (tree.size, tree.root) != (terms.size, terms.tree):
                raise DealMismatch(
                    f"{root} has {tree.size} bytes and cells {tree.root.hex()[:16]}, the deal says "
                    f"{terms.size} and {terms.tree.hex()[:16]}",
                    hint="tell its client: the commitment is wrong",
                )
            self._mine.add(deal)
            await self._store.pin(root, deal.hex(), HOLD)
        return await self._place("accept", deal, ACCEPT, Accept(deal))

    async def release(self, deal: bytes) -> Sent:
        """Give a deal up: one's own offer for nothing, one's holding for the price of a miss.

        It may wait for validators.

        Raises:
            UnknownDeal: there is none.
            LocalError: the wallet's or the ledger's refusal.
        """
        self._deal(deal)
        sent = await self._place("release", deal, RELEASE, Release(deal))
        # One that waits may be taken back: until a block holds it the file is asked for.
        self._mine.add(deal)
        await self._let_go()
        return sent

    def deals(self, *, mine: bool = True) -> list[Kept]:
        """Deals of this account, or all of them; reads the whole state."""
        us = self._wallet.address
        known = self._driver.ledger.view.deals()
        found = [each for each in known if not mine or self._is_ours(each)]
        return [
            Kept(each, each.terms.holder == us, each.client == us, self._why.get(each.deal, ""))
            for each in found
        ]

    async def _place(self, verb: str, deal: bytes, kind: int, payload: Record) -> Sent:
        key = f"{verb}:{deal.hex()}"
        return await self._outbox.place(key, kind, payload, subject=deal.hex())

    # -- rounds

    def _find_ours(self) -> None:
        """Read all deals of the ledger, if there were blocks that told nothing of theirs."""
        ledger = self._driver.ledger
        if self._height is None:
            self._height = ledger.height
            self._mine.update(each.deal for each in ledger.view.deals() if self._is_ours(each))

    def _hear_head(self, head: Head) -> None:
        view = self._driver.ledger.view
        present = view.custody_round()
        height = head.block.header.height
        if self._height is not None and height > self._height + 1:
            self._height = None  # between the two a snapshot was taken: its deals made no events
            self._news.set()
        elif self._height is not None:
            self._height = max(height, self._height)
        for event in head.outcome.events:
            if isinstance(event, DealChanged):
                deal = view.deal(event.deal)
                if deal is not None and self._is_ours(deal):
                    self._mine.add(event.deal)
                    self._news.set()
        if present is not None and present.number != self._round:
            self._round = present.number
            self._news.set()

    async def _let_go(self) -> None:
        """Forget deals that are over, and give their pins up.

        One that the ledger does not know keeps its pin: deals stay there for ever, so a ledger
        that is fetched anew has not come to it yet.
        """
        view = self._driver.ledger.view
        known = {identity: view.deal(identity) for identity in self._mine}
        over = {identity for identity, deal in known.items() if deal is not None and _is_over(deal)}
        if over:
            names = {identity.hex() for identity in over}
            for pin in await self._store.pins():
                if pin.owner == HOLD and pin.name in names:
                    with suppress(NotFound):  # the operator was quicker
                        await self._store.unpin(pin.root, pin.name)
        self._mine -= over
        for identity in over:
            self._told.pop(identity, None)

    async def _tend(self, deal: Deal, present: Round) -> None:
        if self._told.get(deal.deal) == present.number:
            return
        if deal.terms.holder == self._wallet.address:
            if deal.next_round <= present.number < deal.end_round:
                await self._answer(deal, present)
        elif deal.next_round < present.number:
            self._told[deal.deal] = present.number
            subject = deal.deal.hex()
            await self._outbox.put(f"lapse:{subject}", LAPSE, Lapse(deal.deal), subject=subject)

    async def _answer(self, deal: Deal, present: Round) -> None:
        """Answer a round, or say why not; tried once a round and again when news come."""
        terms = deal.terms
        places = asked(present.seed, deal.deal, terms.size)
        try:
            shown = await self._open_cells(deal, places)
        except LocalError as error:
            self._why[deal.deal] = error.what
            log.warning("no answer to a round", deal=deal.deal.hex()[:16], why=error.what)
            return
        is_right = is_shown(
            terms.tree, size=terms.size, places=places, cells=shown.cells, nodes=shown.nodes
        )
        assert is_right, "an answer of our own that does not hold"
        self._told[deal.deal] = present.number
        self._why.pop(deal.deal, None)
        payload = Prove(deal.deal, present.number, shown.cells, shown.nodes)
        subject = deal.deal.hex()
        await self._outbox.put(f"prove:{subject}", PROVE, payload, subject=subject)

    async def _open_cells(self, deal: Deal, places: tuple[int, ...]) -> Shown:
        root = decode_cid(deal.terms.root)
        tree = await self._tree(root, deal.terms.tree)
        holder = f"deal {deal.deal.hex()[:16]}"
        async with self._store.lease(root, holder=holder, purpose="prove") as path:
            return await self._hop(functools.partial(answer, path, tree, places))

    async def _tree(self, root: Cid, expected: bytes) -> PieceTree:
        """The commitment of a deal's file: of memory, of the folder, or made anew."""
        tree = self._trees.get(expected)
        if tree is None:
            raw = await self._hop(lambda: self._written(root))
            tree = None if raw is None else decode_tree(raw, file=root, root=expected)
        if tree is None:
            tree = await self._commit(root)
            if tree.root != expected:
                raise DealMismatch(f"{root} is not the file of the deal any more")
        self._trees[expected] = tree
        while len(self._trees) > TREES_MAX:
            del self._trees[next(iter(self._trees))]
        return tree

    async def _commit(self, root: Cid) -> PieceTree:
        async with self._store.lease(root, holder="custody", purpose="commit") as path:
            tree = await self._hop(functools.partial(commit_file, path))
        if tree.file != root:
            await self._store.verify(root)  # says which leaf
            raise DealMismatch(f"{root} is stored in another form than a deal can be about")
        await self._hop(lambda: self._write(root, tree))
        return tree

    def _written(self, root: Cid) -> bytes | None:
        path = self._folder / root.digest.hex()
        return path.read_bytes() if path.exists() else None

    def _write(self, root: Cid, tree: PieceTree) -> None:
        """Keep a commitment; one that is torn is made anew, so nothing is synced."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self._folder / root.digest.hex()).write_bytes(encode_tree(tree))

    async def _hop(self, call: Callable[[], _T]) -> _T:
        return await trio.to_thread.run_sync(call, limiter=self._limiter)

    def _deal(self, deal: bytes) -> Deal:
        found = self._driver.ledger.view.deal(deal)
        if found is None:
            raise UnknownDeal(f"no deal 0x{deal.hex()}", hint="see: prsm storage deals")
        return found

    def _is_ours(self, deal: Deal) -> bool:
        return self._wallet.address in {deal.client, deal.terms.holder}


def _is_over(deal: Deal) -> bool:
    return deal.status not in {DealStatus.OFFERED, DealStatus.ACTIVE}
