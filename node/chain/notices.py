"""Tells peers that watch what became of the transactions they submitted.

Knows: who watches, which transactions each of them brought, which blocks came last. Must not
know: signatures, the mempool's rules, what a transaction does. Notices are hints: a client
believes what validators of weight f+ say alike. Source: docs/spec/wire.md, "Clients".

Invariants: a notice goes only to the peer that brought the transaction; what is remembered of
peers and of blocks is bounded, the oldest is forgotten first.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from prsm.node.chain.driver import Head
from prsm.node.chain.mempool import MempoolFull
from prsm.node.chain.noncequeue import NonceGap, SenderLimited
from prsm.node.net.interface import Busy, Channel, Incoming, Network, PeerEvent
from prsm.protocol.errors import PrsmError
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import BLOCK_TRANSACTIONS_MAX, NAME_BYTES_MAX
from prsm.protocol.messages.notices import Included, Refused, Watch
from prsm.protocol.transactions.envelope import transaction_id
from prsm.protocol.transactions.results import Code

# A mempool's worth and what waits for its check; 100 bytes each.
AWAITED_MAX: Final = 65_536
# A transaction that arrives after its block is answered with the block; at full load a second.
BLOCKS_REMEMBERED: Final = 32
_PASSING: Final = Busy | MempoolFull | NonceGap | SenderLimited  # a block makes room
PEERS_OF_ONE_MAX: Final = 4  # that brought the same transaction


@dataclass(frozen=True, slots=True)
class _Block:
    height: int
    block_hash: bytes
    places: dict[bytes, int]
    failed: frozenset[bytes]


class Notices:
    """Who waits for which transaction, and the frames that say where it is.

    Args:
        network: where watchers say so; not running yet.
        on_head: list of listeners of durable blocks.
    """

    def __init__(self, network: Network, on_head: list[Callable[[Head], None]]) -> None:
        self._network = network
        self._watchers: set[PeerId] = set()
        self._awaited: OrderedDict[bytes, tuple[PeerId, ...]] = OrderedDict()
        self._blocks: OrderedDict[int, _Block] = OrderedDict()
        network.on_message(Watch, self._hear_watch)
        network.on_peer(self._hear_peer)
        on_head.append(self._hear_head)

    @property
    def watching(self) -> int:
        """How many peers watch."""
        return len(self._watchers)

    def is_watching(self, peer: PeerId) -> bool:
        """Did this peer say that it watches?"""
        return peer in self._watchers

    def taken(self, peer: PeerId, tx_ids: Iterable[bytes]) -> None:
        """Note that a peer brought transactions which wait here now."""
        if peer not in self._watchers:
            return
        awaited = self._awaited
        for tx_id in tx_ids:
            known = awaited.get(tx_id)
            if known is None:
                awaited[tx_id] = (peer,)
            elif peer not in known and len(known) < PEERS_OF_ONE_MAX:
                awaited[tx_id] = (*known, peer)
        while len(awaited) > AWAITED_MAX:
            awaited.popitem(last=False)

    def refused(self, peer: PeerId, raws: Sequence[bytes], error: PrsmError) -> None:
        """Tell a peer that its transactions do not wait here, or which block they are in."""
        if peer not in self._watchers:
            return
        left = self._tell_late(peer, [transaction_id(raw) for raw in raws])
        retry_after_ms = error.retry_after_ms if isinstance(error, _PASSING) else 0
        for start in range(0, len(left), BLOCK_TRANSACTIONS_MAX):
            part = tuple(left[start : start + BLOCK_TRANSACTIONS_MAX])
            notice = Refused(error.reason[:NAME_BYTES_MAX], retry_after_ms, part)
            self._network.send_nowait(peer, notice, channel=Channel.CTL)

    def _tell_late(self, peer: PeerId, tx_ids: Sequence[bytes]) -> list[bytes]:
        """Answer those that are in a block of late; return the others."""
        left = list(tx_ids)
        for block in reversed(self._blocks.values()):
            found = [tx_id for tx_id in left if tx_id in block.places]
            if found:
                self._tell(peer, block, sorted(found, key=block.places.__getitem__))
                left = [tx_id for tx_id in left if tx_id not in block.places]
            if not left:
                break
        return left

    def _hear_watch(self, incoming: Incoming) -> None:
        assert isinstance(incoming.message, Watch)
        if incoming.message.wanted:
            self._watchers.add(incoming.peer)
        else:
            self._watchers.discard(incoming.peer)

    def _hear_peer(self, event: PeerEvent) -> None:
        if not event.up:
            self._watchers.discard(event.peer)

    def _hear_head(self, head: Head) -> None:
        if not self._watchers:
            self._awaited.clear()
            self._blocks.clear()
            return
        outcome = head.outcome
        block = _Block(
            outcome.tip.height,
            outcome.tip.block_hash,
            {tx_id: place for place, tx_id in enumerate(outcome.tx_ids)},
            frozenset(
                tx_id
                for tx_id, raw in zip(outcome.tx_ids, outcome.receipts, strict=True)
                if not _is_done(raw)
            ),
        )
        self._blocks[block.height] = block
        if len(self._blocks) > BLOCKS_REMEMBERED:
            self._blocks.popitem(last=False)
        found: dict[PeerId, list[bytes]] = {}
        for tx_id in outcome.tx_ids:
            for peer in self._awaited.pop(tx_id, ()):
                found.setdefault(peer, []).append(tx_id)
        for peer, tx_ids in found.items():
            self._tell(peer, block, tx_ids)

    def _tell(self, peer: PeerId, block: _Block, tx_ids: Sequence[bytes]) -> None:
        failed = block.failed
        notice = Included(
            height=block.height,
            block_hash=block.block_hash,
            transactions=tuple(tx_ids),
            failed=tuple(i for i, tx_id in enumerate(tx_ids) if tx_id in failed) if failed else (),
        )
        self._network.send_nowait(peer, notice, channel=Channel.CTL)


def _is_done(receipt: bytes) -> bool:
    # A canonical `TxReceipt`: one byte of array, 34 of the id, then its code: 0 if done.
    return receipt[35] == Code.DONE
