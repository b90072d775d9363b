"""Transactions that peers hold and this node lacks: announced by id, asked for, checked anew.

Transactions go to every validator directly (node/chain/wallet); this is for what a frame lost or a
restart forgot. Knows: who announced which ids, what is being asked of whom. Must not know: what a
transaction does. What arrives goes through the same door as everything else (node/chain/admission).

Invariants: ids are told only of what has waited `TOLD_AFTER_MS`, and only to validators; one
question to a peer is in flight at a time, and of one id one in all; nothing of it grows with what
peers say. Source: docs/spec/wire.md, "Transactions".
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

import trio

from prsm.node.chain.admission import Admission
from prsm.node.chain.driver import Driver
from prsm.node.net.interface import Answer, CallRefused, Channel, Incoming, PeerUnreachable
from prsm.node.telemetry import logs
from prsm.protocol.codec import Record
from prsm.protocol.errors import RemoteError, WireError
from prsm.protocol.ids import PeerId, TxId
from prsm.protocol.limits import (
    PENDING_IDS_MAX,
    PULLED_BYTES_MAX,
    PULLED_MAX,
    TRANSACTION_BYTES_MAX,
)
from prsm.protocol.messages.pool import GetTransactions, GotTransactions, Pending
from prsm.protocol.transactions.envelope import transaction_id

log = logs.get("pull")

TELL_SECONDS: Final = 2.0
TOLD_AFTER_MS: Final = 1_000  # by then a direct send has arrived, or is lost
ASK_SECONDS: Final = 5.0
# What arrived and does not wait here was refused, or is in a block; it is not asked for at once.
SETTLED_MS: Final = 30_000
SETTLED_MAX: Final = 8_192
PAUSE_MS: Final = 5_000  # after silence or a refusal; doubles
PAUSE_MS_MAX: Final = 600_000


@dataclass(slots=True)
class _Pause:
    until_ms: int
    length_ms: int


class Pull:
    """Tells validators what waits here, and fetches what waits there.

    Args:
        driver: whose mempool it is.
        admission: the door for what arrives.
    """

    def __init__(self, driver: Driver, admission: Admission) -> None:
        self._driver = driver
        self._admission = admission
        self._network = network = driver.network
        self._told: dict[PeerId, tuple[bytes, ...]] = {}  # the last word of each peer
        self._asking: dict[PeerId, frozenset[bytes]] = {}
        self._pauses: dict[PeerId, _Pause] = {}
        self._settled: OrderedDict[bytes, int] = OrderedDict()
        self._news = trio.Event()
        network.on_message(Pending, self._hear)
        network.on_call(GetTransactions, self._serve)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Tell and ask until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tell)
            task_status.started()
            while True:
                await self._news.wait()
                self._news = trio.Event()
                for peer, ids in self._questions():
                    self._asking[peer] = frozenset(ids)
                    nursery.start_soon(self._ask, peer, ids)

    async def _tell(self) -> None:
        while True:
            await trio.sleep(TELL_SECONDS)
            before_ms = self._driver.clock.wall_ms() - TOLD_AFTER_MS
            ids = self._driver.mempool.ready_ids(PENDING_IDS_MAX, before_ms=before_ms)
            if not ids:
                continue
            members = {validator.peer_id for validator in self._driver.validators.validators}
            for info in self._network.peers():
                if info.peer in members:
                    self._network.send_nowait(
                        info.peer, Pending(ids=tuple(ids)), channel=Channel.CTL
                    )

    def _hear(self, incoming: Incoming) -> None:
        assert isinstance(incoming.message, Pending)
        self._told[incoming.peer] = incoming.message.ids
        self._news.set()

    def _questions(self) -> list[tuple[PeerId, tuple[bytes, ...]]]:
        """Who is asked for what now; a peer that is being asked keeps its last word."""
        now_ms = self._driver.clock.monotonic_ms()
        live = {info.peer for info in self._network.peers()}
        self._told = {peer: ids for peer, ids in self._told.items() if peer in live}
        self._pauses = {peer: pause for peer, pause in self._pauses.items() if peer in live}
        taken = set[bytes]().union(*self._asking.values())
        questions: list[tuple[PeerId, tuple[bytes, ...]]] = []
        for peer in sorted(set(self._told) - set(self._asking)):
            ids = self._told.pop(peer)
            pause = self._pauses.get(peer)
            if pause is not None and now_ms < pause.until_ms:
                continue
            missing = [ident for ident in ids if ident not in taken and self._lacks(ident, now_ms)]
            if missing:
                questions.append((peer, tuple(missing[:PULLED_MAX])))
                taken.update(missing[:PULLED_MAX])
        return questions

    def _lacks(self, identity: bytes, now_ms: int) -> bool:
        settled_ms = self._settled.get(identity)
        is_settled = settled_ms is not None and now_ms - settled_ms < SETTLED_MS
        return not is_settled and identity not in self._driver.mempool

    async def _ask(self, peer: PeerId, ids: tuple[bytes, ...]) -> None:
        try:
            with trio.fail_after(ASK_SECONDS):
                answer, _ = await self._network.call(
                    peer, GetTransactions(ids=ids), channel=Channel.BULK
                )
            raws = _read(answer, ids)
        except trio.TooSlowError:
            self._pause(peer, "no answer in time")
        except (PeerUnreachable, CallRefused) as error:
            self._pause(peer, error.what)
        except RemoteError as error:
            self._network.penalise(peer, error)
            self._pause(peer, error.what)
        else:
            self._pauses.pop(peer, None)
            if raws and self._admission.offer(peer, raws):
                self._settle(raws)
                log.debug("missing transactions pulled", peer=peer, count=len(raws))
        finally:
            del self._asking[peer]
            self._news.set()

    def _pause(self, peer: PeerId, why: str) -> None:
        known = self._pauses.get(peer)
        length_ms = PAUSE_MS if known is None else min(2 * known.length_ms, PAUSE_MS_MAX)
        self._pauses[peer] = _Pause(self._driver.clock.monotonic_ms() + length_ms, length_ms)
        log.info("peer not asked for transactions for a while", peer=peer, why=why)

    def _settle(self, raws: tuple[bytes, ...]) -> None:
        now_ms = self._driver.clock.monotonic_ms()
        for raw in raws:
            identity = transaction_id(raw)
            self._settled[identity] = now_ms
            self._settled.move_to_end(identity)
        while len(self._settled) > SETTLED_MAX:
            self._settled.popitem(last=False)

    async def _serve(self, incoming: Incoming) -> Answer:
        await trio.lowlevel.checkpoint()
        assert isinstance(incoming.message, GetTransactions)
        found: list[bytes] = []
        room = PULLED_BYTES_MAX
        for identity in incoming.message.ids:
            raw = self._driver.mempool.get(TxId(identity))
            if raw is not None and len(raw) <= room:
                found.append(raw)
                room -= len(raw)
        return GotTransactions(transactions=tuple(found)), b""


def _read(answer: Record, asked: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """The transactions of an answer.

    Raises:
        WireError: another answer, or transactions nobody asked for.
    """
    if not isinstance(answer, GotTransactions):
        raise WireError(f"{type(answer).__name__} is no answer to what was asked")
    raws = answer.transactions
    size = sum(map(len, raws))
    if size > PULLED_BYTES_MAX or any(len(raw) > TRANSACTION_BYTES_MAX for raw in raws):
        raise WireError(f"transactions of {size} bytes, at most {PULLED_BYTES_MAX}")
    names = [transaction_id(raw) for raw in raws]
    if len(set(names)) < len(names) or not set(names) <= set(asked):
        raise WireError("a transaction nobody asked for")
    return raws
