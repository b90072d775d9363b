"""What a client knows of each transaction it sent: due, final, refused. Pure: time is handed in.

A transaction is final when validators of weight f+ said the same block of it, and refused when
validators of that weight refused it since it was sent last. Source: docs/spec/wire.md, "Clients".
"""

import heapq
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import final

from prsm.protocol.ids import PeerId
from prsm.protocol.messages.notices import Included, Refused
from prsm.protocol.transactions.envelope import transaction_id
from prsm.protocol.validators import weak_quorum_of


@dataclass(slots=True)
class Ticket:
    """One transaction on its way.

    Attributes:
        raw: its bytes.
        due_s: when it was to be sent last.
        final_s: when weight f+ had said its block; 0 until then.
        height: of that block.
        failed: whether it only cost its fee.
    """

    raw: bytes
    due_s: float
    final_s: float = 0.0
    height: int = 0
    failed: bool = False
    refusals: int = 0  # weight since `due_s`
    said: dict[bytes, int] = field(default_factory=dict)  # block hash -> weight


@final
class Book:
    """Tickets of one client.

    Args:
        stakes: of the validators, by peer.
    """

    def __init__(self, stakes: Mapping[PeerId, int]) -> None:
        self._stakes = stakes
        self._weak = weak_quorum_of(sum(stakes.values()))
        self.tickets: dict[bytes, Ticket] = {}
        self.open = 0  # sent, neither final nor given up
        self.final = 0
        self.refused: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()  # refused for good, by reason
        self._again: list[tuple[float, bytes]] = []  # heap: when, id

    def enter(self, raw: bytes, due_s: float) -> bytes:
        """Note a transaction that leaves now; returns its id."""
        tx_id = transaction_id(raw)
        self.tickets[tx_id] = Ticket(raw, due_s)
        self.open += 1
        return tx_id

    def due_again(self, now_s: float, limit: int) -> list[bytes]:
        """Bytes of refused transactions whose time has come, at most `limit`."""
        raws: list[bytes] = []
        while self._again and self._again[0][0] <= now_s and len(raws) < limit:
            ticket = self.tickets[heapq.heappop(self._again)[1]]
            if not ticket.final_s:
                ticket.due_s, ticket.refusals = now_s, 0
                raws.append(ticket.raw)
        return raws

    def hear_included(self, peer: PeerId, notice: Included, now_s: float) -> list[bytes]:
        """Count a validator's word; returns ids that became final by it."""
        stake, became = self._stakes.get(peer, 0), []
        for place, tx_id in enumerate(notice.transactions):
            ticket = self.tickets.get(tx_id)
            if ticket is None or ticket.final_s:
                continue
            weight = ticket.said.get(notice.block_hash, 0) + stake
            ticket.said[notice.block_hash] = weight
            if weight >= self._weak:
                ticket.final_s, ticket.height = now_s, notice.height
                ticket.failed = place in notice.failed
                became.append(tx_id)
        self.open -= len(became)
        self.final += len(became)
        return became

    def hear_refused(self, peer: PeerId, notice: Refused, now_s: float) -> list[bytes]:
        """Count a validator's refusals; returns ids that are given up for good by it."""
        stake, lost = self._stakes.get(peer, 0), []
        for tx_id in notice.transactions:
            ticket = self.tickets.get(tx_id)
            if ticket is None or ticket.final_s or ticket.refusals >= self._weak:
                continue
            ticket.refusals += stake
            if ticket.refusals < self._weak:
                continue
            self.refused[notice.reason] += 1
            if notice.retry_after_ms:
                heapq.heappush(self._again, (now_s + notice.retry_after_ms / 1000, tx_id))
            else:
                self.lost[notice.reason] += 1
                lost.append(tx_id)
        self.open -= len(lost)
        return lost
