"""The door for signed things: votes and transactions are checked here, in batches in threads.

Knows: which key must have signed what, and what was checked already. Must not know: what a vote
or a transaction does. Bad signatures are counted against the peer that brought them.

Invariants: only messages whose signature holds reach the driver; only transactions whose
signature holds reach the mempool; both queues are bounded, and retransmission brings back what
a full queue dropped.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Final, final

import trio

from prsm.consensus.ledger.admission import Checked
from prsm.consensus.pbft.opened import Opened, open_message
from prsm.consensus.pbft.opened import is_signed as is_vote_signed
from prsm.node.chain.batches import BATCH_MAX, check_each
from prsm.node.chain.votes import Votes
from prsm.node.net.interface import Busy, Incoming, Network
from prsm.node.telemetry import logs
from prsm.protocol.ed25519 import Ed25519Signer, Ed25519Verifier, Signer, Verifier
from prsm.protocol.errors import BadSignature, PrsmError, RemoteError, WireError
from prsm.protocol.ids import PeerId, PublicKey
from prsm.protocol.limits import MIB, TRANSACTION_BYTES_MAX
from prsm.protocol.messages.consensus import SignedMessage
from prsm.protocol.messages.sync import Submit
from prsm.protocol.signing import STATEMENT_BYTES
from prsm.protocol.transactions.envelope import Transaction
from prsm.protocol.validators import ValidatorSet

log = logs.get("admission")

TRANSACTIONS_WAITING_MAX: Final = 20_000
TRANSACTIONS_WAITING_BYTES_MAX: Final = 16 * MIB
RETRY_AFTER_MS: Final = 1_000  # the queue for the check is a second of work or less
REMEMBERED_MAX: Final = 65_536
# Decoded until they are in a block, as many as may wait: 1.2 KB each; others are decoded again.
DECODED_MAX: Final = 6_000
DECODED_BYTES_MAX: Final = 4 * MIB  # encoded
STATEMENTS_MAX: Final = 512  # eight heights of 32 validators; twice as many are kept, 0.5 MB


@final
class Statements:
    """libsodium's rule, asked once for each statement of a validator.

    A vote comes alone, and again in the certificates that hold it: in the next block, which the
    replica and the ledger both check. Remembered is what held, byte for byte, of statements alone:
    nothing else that is signed is as short (protocol/signing). Threads may ask.

    Args:
        rule: libsodium's.
    """

    def __init__(self, rule: Verifier) -> None:
        self._rule = rule
        self._latest: set[tuple[bytes, bytes, bytes]] = set()
        self._earlier: set[tuple[bytes, bytes, bytes]] = set()

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        """Is this the key's signature of the message?"""
        if len(message) != STATEMENT_BYTES:
            return self._rule.verify(public_key, message, signature)
        stated = (public_key, message, signature)
        if stated in self._latest or stated in self._earlier:
            return True
        if not self._rule.verify(public_key, message, signature):
            return False
        self._note(stated)
        return True

    def _note(self, stated: tuple[bytes, bytes, bytes]) -> None:
        if len(self._latest) >= STATEMENTS_MAX:
            self._earlier, self._latest = self._latest, set()
        self._latest.add(stated)

    def signer(self, seed: bytes) -> Signer:
        """A key whose own statements need no check: they come back in certificates."""
        return _OwnSigner(Ed25519Signer(seed), self._note)


@final
class _OwnSigner:
    def __init__(self, key: Signer, note: Callable[[tuple[bytes, bytes, bytes]], None]) -> None:
        self._key = key
        self._note = note

    @property
    def public_key(self) -> PublicKey:
        return self._key.public_key

    def sign(self, message: bytes) -> bytes:
        signature = self._key.sign(message)
        if len(message) == STATEMENT_BYTES:
            self._note((self.public_key, message, signature))
        return signature


class Seen:
    """A bounded memory of what was checked; the oldest is forgotten first.

    Ids of many; of those in no block yet also what the check made of them, for the judge of blocks.

    Attributes:
        verifier: remembers what validators stated.
    """

    def __init__(self, size: int = REMEMBERED_MAX) -> None:
        self.verifier = Statements(Ed25519Verifier())
        self._size = size
        self._items: OrderedDict[bytes, None] = OrderedDict()
        self._decoded: OrderedDict[bytes, Checked] = OrderedDict()
        self._decoded_bytes = 0
        self._lock = Lock()  # door and judge keep, each in a thread

    def __contains__(self, item: object) -> bool:
        return item in self._items

    def __len__(self) -> int:
        return len(self._items)

    def add(self, item: bytes) -> None:
        """Remember an item."""
        with self._lock:
            self._add(item)

    def _add(self, item: bytes) -> None:
        self._items[item] = None
        if len(self._items) > self._size:
            self._items.popitem(last=False)

    def keep(self, checked: Checked) -> None:
        """Remember what the ledger's check returned; threads may."""
        with self._lock:
            if checked.id in self._decoded:
                return
            self._add(checked.id)
            self._decoded[checked.id] = checked
            self._decoded_bytes += len(checked.raw)
            while len(self._decoded) > DECODED_MAX or self._decoded_bytes > DECODED_BYTES_MAX:
                _, oldest = self._decoded.popitem(last=False)
                self._decoded_bytes -= len(oldest.raw)

    def settle(self, identities: Iterable[bytes]) -> None:
        """These are in a durable block, where no judge asks for them again; their ids stay."""
        with self._lock:
            for identity in identities:
                if (checked := self._decoded.pop(identity, None)) is not None:
                    self._decoded_bytes -= len(checked.raw)

    def recall(self, identity: bytes) -> Checked | None:
        """What the check returned for a transaction; threads may ask."""
        return self._decoded.get(identity)


@dataclass(frozen=True, slots=True)
class _Brought:
    peer: PeerId
    raws: tuple[bytes, ...]
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Rules:
    """What a signature is checked against.

    Attributes:
        chain_id: of this network.
        verifier: libsodium's rule.
        check: the ledger's check of a transaction that needs no state.
        validators_at: the set of an epoch, None for one this node does not know.
    """

    chain_id: bytes
    verifier: Verifier
    check: Callable[[bytes], Checked]
    validators_at: Callable[[int], ValidatorSet | None]


class Admission:
    """Checks what arrives and hands on what holds.

    Args:
        network: where votes and transactions arrive; handlers are registered here.
        rules: network, verifier, validators.
        on_vote: gets each checked message; must not wait.
        on_transaction: gets each checked transaction; a `PrsmError` is the mempool's refusal.
        known: ids of transactions whose signature held; the ledger asks it too.
    """

    def __init__(
        self,
        network: Network,
        *,
        rules: Rules,
        on_vote: Callable[[Opened], None],
        on_transaction: Callable[[bytes, Transaction], None],
        known: Seen,
    ) -> None:
        self._network = network
        self._rules = rules
        self._on_transaction = on_transaction
        self.known = known
        self.votes = Votes(network, self._open_vote, on_vote)
        self._raw_in, self._raw_out = trio.open_memory_channel[_Brought](TRANSACTIONS_WAITING_MAX)
        self._waiting_bytes = 0
        self._waiting_count = 0
        self.dropped = 0
        # Transactions that may still come in: more are refused before their signature is checked.
        self.room: Callable[[], int] = lambda: TRANSACTIONS_WAITING_MAX
        # What became of a peer's transactions, for peers that watch (node/chain/notices).
        self.on_taken: Callable[[PeerId, Iterable[bytes]], None] = lambda _peer, _ids: None
        self.on_refused: Callable[[PeerId, Sequence[bytes], PrsmError], None] = (
            lambda _peer, _raws, _error: None
        )
        network.on_message(Submit, self._hear_transactions)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Check until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.votes.run)
            nursery.start_soon(self._check_transactions)
            task_status.started()

    def admit_own(self, raw: bytes) -> Checked:
        """Take a transaction this node made or was handed over RPC.

        Raises:
            WireError, WrongChain, BadSignature: it is none of this network.
            LocalError: its fee is too low, or the mempool refuses it.
        """
        checked = self._rules.check(raw)
        self.known.keep(checked)
        self._on_transaction(raw, checked.transaction)
        return checked

    def _hear_transactions(self, incoming: Incoming) -> None:
        assert isinstance(incoming.message, Submit)
        raws = incoming.message.transactions
        sizes = [len(raw) for raw in raws]
        if sizes and max(sizes) > TRANSACTION_BYTES_MAX:
            raise WireError(
                f"transaction of {max(sizes)} bytes, at most {TRANSACTION_BYTES_MAX}",
                peer=incoming.peer,
            )
        size, count = sum(sizes), len(sizes)
        if not self._queue(_Brought(incoming.peer, raws, size)):
            self.dropped += count
            full = f"{self._waiting_count} transactions of {self._waiting_bytes} bytes wait"
            refusal = Busy(f"{full} for their check", retry_after_ms=RETRY_AFTER_MS)
            self.on_refused(incoming.peer, raws, refusal)

    def offer(self, peer: PeerId, raws: tuple[bytes, ...]) -> bool:
        """Take a peer's transactions to be checked in their turn.

        Args:
            peer: who answers for their signatures.
            raws: of at most `TRANSACTION_BYTES_MAX` each.

        Returns:
            False if there is no room for all of them; then none is taken.
        """
        return self._queue(_Brought(peer, raws, sum(map(len, raws))))

    def _queue(self, item: _Brought) -> bool:
        count, size = self._waiting_count + len(item.raws), self._waiting_bytes + item.size_bytes
        count_max = min(TRANSACTIONS_WAITING_MAX, self.room())
        if count > count_max or size > TRANSACTIONS_WAITING_BYTES_MAX:
            return False
        try:
            self._raw_in.send_nowait(item)
        except trio.WouldBlock:  # as many frames with next to nothing in them
            return False
        self._waiting_count, self._waiting_bytes = count, size
        return True

    def _open_vote(self, message: SignedMessage) -> Opened | RemoteError | None:
        validators = self._rules.validators_at(message.epoch)
        if validators is None:  # an epoch past or to come: one of the two is far behind
            return None
        if message.signer >= len(validators):
            return WireError(
                f"vote of signer {message.signer} in epoch {message.epoch}, which has none such",
                penalty=10,
            )
        try:
            opened = open_message(message)
        except WireError as error:
            return error
        if not is_vote_signed(
            opened, validators, chain_id=self._rules.chain_id, verifier=self._rules.verifier
        ):
            return BadSignature(f"{message.kind.name} not signed by validator {message.signer}")
        return opened

    async def _check_transactions(self) -> None:
        async for first in self._raw_out:
            brought = [first]
            count = len(first.raws)
            while count < BATCH_MAX:
                try:
                    brought.append(self._raw_out.receive_nowait())
                except trio.WouldBlock:
                    break
                count += len(brought[-1].raws)
            self._waiting_count -= count
            self._waiting_bytes -= sum(item.size_bytes for item in brought)
            results = iter(
                await check_each(self._check, [raw for item in brought for raw in item.raws])
            )
            for item in brought:
                self._admit(item, [next(results) for _ in item.raws])

    def _admit(self, item: _Brought, checked: Sequence[Checked | PrsmError]) -> None:
        taken: list[bytes] = []
        for raw, result in zip(item.raws, checked, strict=True):
            try:
                if isinstance(result, PrsmError):
                    raise result
                self.known.keep(result)
                self._on_transaction(raw, result.transaction)
            except PrsmError as refusal:
                if isinstance(refusal, RemoteError):
                    self._network.penalise(item.peer, refusal)
                log.debug("transaction refused", why=refusal.what)
                self.on_refused(item.peer, (raw,), refusal)
            else:
                taken.append(result.id)
        self.on_taken(item.peer, taken)

    def _check(self, raw: bytes) -> Checked | PrsmError:
        try:
            return self._rules.check(raw)
        except PrsmError as error:
            return error
