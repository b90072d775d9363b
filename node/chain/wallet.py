"""The payment key of this node: signs transactions in nonce order and follows them to a block.

Knows: the key, its next nonce, what is on its way. Must not know: what a payload means.
Sent to every validator directly, and again until it is in a block: a transaction a crashed
proposer had is not lost.

Invariants: nonces are given out one at a time, only to transactions the own mempool took;
a locked wallet signs nothing.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

import msgspec
import trio

from prsm.consensus.ledger.fees import fee_to_offer
from prsm.node.chain.admission import Admission
from prsm.node.chain.driver import Driver, Head
from prsm.node.chain.history import receipts_of
from prsm.node.chain.mempool import MempoolFull
from prsm.node.keys import WALLET
from prsm.node.net.interface import Channel
from prsm.node.telemetry import logs
from prsm.protocol.codec import Record, decode, encode
from prsm.protocol.ed25519 import Ed25519Signer, Signer
from prsm.protocol.errors import LocalError
from prsm.protocol.genesis import TRANSACTION_MS_MIN, Genesis
from prsm.protocol.ids import PeerId, PublicKey, TxId
from prsm.protocol.limits import BULK_FRAME_BYTES_MAX, CTL_FRAME_BYTES_MAX
from prsm.protocol.messages.sync import Submit
from prsm.protocol.transactions.envelope import (
    Transaction,
    decode_transaction,
    sign_transaction,
    transaction_id,
)
from prsm.protocol.transactions.results import TxReceipt
from prsm.storage.keystore import load_key, read_key_file

log = logs.get("wallet")

RESEND_SECONDS: Final = 2.0
VALID_MS: Final = 600_000
assert VALID_MS + 60_000 < TRANSACTION_MS_MIN  # whatever is voted, what it signs may stand
PENDING_MAX: Final = 1_000
# One frame a round: consensus shares the stream, and a full queue drops the peer.
RESEND_BYTES_MAX: Final = CTL_FRAME_BYTES_MAX // 2


class WalletLocked(LocalError):
    """The payment key is encrypted and nobody gave its password."""

    reason = "wallet_locked"


class TransactionExpired(LocalError):
    """A transaction was in no block before its time ran out."""

    reason = "transaction_expired"


class TransactionUnseen(LocalError):
    """A transaction is over, and a block that may hold it is not on this node."""

    reason = "transaction_unseen"


@dataclass(frozen=True, slots=True)
class TxResult:
    """A transaction in a block: where, and what the ledger said."""

    tx_id: TxId
    height: int
    index: int
    receipt: TxReceipt


class Fate(Enum):
    """What may become of a transaction that no block here holds."""

    OPEN = "a block may hold it yet"
    VOID = "no block will, and none does"
    UNSEEN = "no block will, and one that this node has not may"


@dataclass(slots=True)
class _Pending:
    raw: bytes
    transaction: Transaction
    since: int  # the ledger's height when it was handed in
    done: trio.Event
    result: TxResult | None = None


class Wallet:
    """One account that this node may sign for."""

    def __init__(
        self,
        path: Path,
        *,
        genesis: Genesis,
        driver: Driver,
        admission: Admission,
        purpose: str = WALLET,
    ) -> None:
        self.address = PublicKey(read_key_file(path).public)
        self._path = path
        self._purpose = purpose  # of the key file: one made for another purpose is refused
        self._signer: Signer | None = None
        self._chain_id = genesis.chain_id
        self._development = genesis.development
        self._driver = driver
        self._admission = admission
        self._pending: dict[TxId, _Pending] = {}
        self._turn = trio.Lock()
        self.on_sent: list[Callable[[Record, int], None]] = []  # told payload and fee
        driver.on_head.append(self._hear_head)

    @property
    def is_locked(self) -> bool:
        """Is the key still encrypted?"""
        return self._signer is None

    @property
    def signer(self) -> Signer:
        """The payment key.

        Raises:
            WalletLocked: nobody unlocked it.
        """
        if self._signer is None:
            raise WalletLocked(
                f"wallet {self._path.name} is locked",
                hint=f"type: prsm wallet unlock {self._path.stem}",
            )
        return self._signer

    async def unlock(self, password: str) -> None:
        """Decrypt the key (Argon2id, in a thread).

        Raises:
            WrongPassword: wrong password, or the file was changed; nobody can tell which.
            LocalError: made for a development network while this is none.
        """

        def load() -> bytes:
            return load_key(
                self._path, password=password, purpose=self._purpose, development=self._development
            )

        signer = Ed25519Signer(await trio.to_thread.run_sync(load))
        assert signer.public_key == self.address, "the file's public key is not its seed's"
        self._signer = signer

    def lock(self) -> None:
        """Forget the decrypted key."""
        self._signer = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Send pending transactions again until cancelled."""
        task_status.started()
        turn = 0
        while True:
            await trio.sleep(RESEND_SECONDS)
            self._expire()
            waiting = sorted(self._pending.values(), key=lambda item: item.transaction.nonce)
            if waiting:
                rounds = frames_of(item.raw for item in waiting)
                again = rounds[turn % len(rounds)]
                self._send(again)
                for raw in again:
                    self._remember(raw)
                turn += 1

    async def submit(
        self,
        kind: int,
        payload: Record,
        *,
        keep: Callable[[bytes, int], Awaitable[None]] | None = None,
    ) -> TxId:
        """Sign a payload with the next nonce and send it to the validators.

        Args:
            kind: of transaction.
            payload: of that kind.
            keep: told the signed bytes and the ledger's height before anybody else has them;
                what it raises ends it.

        Raises:
            WalletLocked: nobody unlocked the key.
            LocalError: the ledger's or the mempool's refusal (balance, unknown job, full, …).
        """
        signer = self.signer
        self._check_room()
        async with self._turn:
            height = self._driver.ledger.height
            transaction = self._make(kind, payload, signer)
            raw = encode(transaction)
            self._rehearse(raw, transaction)
            if keep is not None:
                await keep(raw, height)
            self._admission.admit_own(raw)
            tx_id = self._track(raw, transaction)
        for tell in self.on_sent:
            tell(payload, transaction.fee)
        return tx_id

    def submit_signed(self, raw: bytes) -> TxId:
        """Send a transaction somebody signed elsewhere.

        Raises:
            WireError, WrongChain, BadSignature: it is none of this network.
            LocalError: the mempool's refusal.
        """
        self._check_room()
        checked = self._admission.admit_own(raw)
        return self._track(raw, checked.transaction)

    async def wait_committed(self, tx_id: TxId) -> TxResult:
        """Wait until a transaction is in a block; the caller sets the deadline.

        Raises:
            TransactionExpired: its `valid_until` passed first, or another one has its nonce.
            TransactionUnseen: a snapshot stands where the block may be that holds it.
        """
        pending = self._pending.get(tx_id)
        if pending is None:
            return await self._wait_found(tx_id)
        await pending.done.wait()
        result = pending.result or await self.fate(pending.raw, since=pending.since)
        if isinstance(result, TxResult):
            return result
        if result is Fate.UNSEEN:
            # No word of sending it again: it may be paid.
            raise TransactionUnseen(
                f"transaction 0x{tx_id.hex()} is over; this node took a state from its peers and "
                f"has no blocks from {pending.since + 1} on, one of which may hold it",
                hint=f"look at the balance, or ask another node: prsm chain tx 0x{tx_id.hex()}",
            )
        raise TransactionExpired(
            f"transaction 0x{tx_id.hex()} was in no block within {VALID_MS // 1000} s, or "
            f"another one of nonce {pending.transaction.nonce} was first",
            hint="check that the chain moves with: prsm chain status",
        )

    async def _wait_found(self, tx_id: TxId) -> TxResult:
        while True:
            height = self._driver.ledger.height
            found = await self.find(tx_id)
            if found is not None:
                return found
            await self._driver.wait_height(height + 1)

    def pending(self, tx_id: TxId) -> bytes | None:
        """The canonical bytes of a transaction on its way from this node."""
        return self._pending[tx_id].raw if tx_id in self._pending else None

    def rehearse(self, kind: int, payload: Record) -> None:
        """Raise what `submit` would refuse now; nothing is sent.

        Raises:
            WalletLocked: nobody unlocked the key.
            LocalError: the ledger's refusal.
        """
        transaction = self._make(kind, payload, self.signer)
        self._rehearse(encode(transaction), transaction)

    async def fate(self, raw: bytes, *, since: int) -> TxResult | Fate:
        """What became of a transaction of ours, or still may.

        Args:
            raw: as it was signed.
            since: the ledger's height then.
        """
        transaction, ledger = decode_transaction(raw), self._driver.ledger
        # Asked first: the block that ended it, if there is one, is durable then, and found below.
        is_open = (
            transaction.nonce >= ledger.view.nonce(transaction.sender)
            and transaction.valid_until_ms >= ledger.tip.time_ms
        )
        found = await self.find(transaction_id(raw))
        if found is not None:
            return found
        first = await self._driver.store.first_height()
        if is_open:
            return Fate.OPEN
        return Fate.VOID if first is not None and first <= since + 1 else Fate.UNSEEN

    def forget(self, tx_id: TxId) -> None:
        """Send a transaction no more; whoever has it may still put it into a block."""
        pending = self._pending.pop(tx_id, None)
        if pending is not None:
            pending.done.set()

    async def find(self, tx_id: TxId) -> TxResult | None:
        """Look a transaction up in the ledger."""
        place = await self._driver.store.find_tx(tx_id)
        if place is None:
            return None
        stored = await self._driver.store.block(place[0])
        assert stored is not None, "an indexed transaction has its block"
        raw = receipts_of(stored)[place[1]]
        receipt = decode(raw, TxReceipt, size_max=BULK_FRAME_BYTES_MAX)
        return TxResult(tx_id, place[0], place[1], receipt)

    def _rehearse(self, raw: bytes, transaction: Transaction) -> None:
        """Say now what would only cost its fee; behind others of ours, only the block can say."""
        ledger = self._driver.ledger
        if transaction.nonce == ledger.view.nonce(self.address):
            time_ms = max(self._driver.clock.wall_ms(), ledger.tip.time_ms + 1)
            ledger.rehearse(ledger.admission.check(raw), time_ms=time_ms)

    def _make(self, kind: int, payload: Record, signer: Signer) -> Transaction:
        driver = self._driver
        own = [p.transaction.nonce for p in self._pending.values() if self._is_own(p.transaction)]
        nonce = max([driver.ledger.view.nonce(self.address), *(n + 1 for n in own)])
        draft = Transaction(
            version=1,
            chain_id=self._chain_id,
            kind=kind,
            sender=self.address,
            nonce=nonce,
            fee=0,
            payload=encode(payload),
            valid_until_ms=max(self._driver.clock.wall_ms(), self._driver.ledger.tip.time_ms)
            + VALID_MS,
            signature=bytes(64),
        )
        fee = fee_to_offer(self._driver.ledger.parameters, draft, payload)
        return sign_transaction(msgspec.structs.replace(draft, fee=fee), signer)

    def _is_own(self, transaction: Transaction) -> bool:
        return transaction.sender == self.address

    def _track(self, raw: bytes, transaction: Transaction) -> TxId:
        tx_id = transaction_id(raw)
        if tx_id not in self._pending:
            self._pending[tx_id] = _Pending(
                raw, transaction, self._driver.ledger.height, trio.Event()
            )
        self._send((raw,))
        return tx_id

    def _check_room(self) -> None:
        if len(self._pending) >= PENDING_MAX:
            raise MempoolFull(f"{PENDING_MAX} transactions of this node are not in a block yet")

    def _send(self, raws: tuple[bytes, ...]) -> None:
        for validator in self._driver.validators.validators:
            peer = PeerId(validator.peer_id)
            if peer != self._driver.network.peer_id:
                self._driver.network.send_nowait(
                    peer, Submit(transactions=raws), channel=Channel.CTL
                )

    def _remember(self, raw: bytes) -> None:
        """Put it back into the own mempool if it fell out; refusals there are repeats."""
        try:
            self._admission.admit_own(raw)
        except LocalError as refusal:
            log.debug("own transaction not added again", why=refusal.what)

    def _expire(self) -> None:
        """Give up what no block can hold any more: too late, or its nonce is taken."""
        ledger = self._driver.ledger
        for tx_id, pending in list(self._pending.items()):
            transaction = pending.transaction
            is_taken = transaction.nonce < ledger.view.nonce(transaction.sender)
            if is_taken or transaction.valid_until_ms < ledger.tip.time_ms:
                del self._pending[tx_id]
                pending.done.set()

    def _hear_head(self, head: Head) -> None:
        height = head.block.header.height
        for index, tx_id in enumerate(head.outcome.tx_ids):
            pending = self._pending.pop(tx_id, None)
            if pending is not None:
                raw = head.outcome.receipts[index]
                receipt = decode(raw, TxReceipt, size_max=BULK_FRAME_BYTES_MAX)
                pending.result = TxResult(tx_id, height, index, receipt)
                pending.done.set()


def frames_of(raws: Iterable[bytes]) -> list[tuple[bytes, ...]]:
    """Cut transactions into groups that one frame of the control stream holds each."""
    groups: list[list[bytes]] = []
    room = 0
    for raw in raws:
        if not groups or len(raw) > room:
            groups.append([])
            room = RESEND_BYTES_MAX
        groups[-1].append(raw)
        room -= len(raw)
    return [tuple(group) for group in groups]
