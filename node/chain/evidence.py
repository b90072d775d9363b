"""Evidence on its way into a block: kept while it convicts somebody, told once to every validator.

Knows: bytes that the ledger says convict. Must not know: votes. What a peer brings is judged
before it is kept or passed on, so a flood of lies goes no further than here; what this replica
saw itself goes the same way. Source: docs/spec/pbft.md, "Evidence".

Invariants: at most `WAITING_MAX` entries; each convicted somebody when it was judged last, which
happens after every block.
"""

from collections.abc import Callable
from typing import Final

from prsm.consensus.pbft.effects import Accuse
from prsm.node.net.interface import Channel, Incoming, Network
from prsm.node.telemetry import logs, metrics
from prsm.protocol.codec import encode
from prsm.protocol.errors import RemoteError
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import EVIDENCE_BYTES_MAX
from prsm.protocol.messages.consensus import Accusation
from prsm.protocol.transactions.evidence import evidence_of
from prsm.protocol.validators import ValidatorSet

log = logs.get("evidence")

WAITING_MAX: Final = 64  # four blocks full; two honest nodes saw it, so one of them has room


class EvidencePool:
    """What waits for a block, oldest first.

    Args:
        convicts: would the ledger take this in the next block?
    """

    def __init__(self, convicts: Callable[[bytes], bool]) -> None:
        self._convicts = convicts
        self._waiting: dict[bytes, None] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, raw: bytes) -> bool:
        """Keep evidence; False if it is known, there is no room, or it convicts nobody."""
        if raw in self._waiting or len(self._waiting) >= WAITING_MAX or not self._convicts(raw):
            return False
        self._waiting[raw] = None
        return True

    def waiting(self, bytes_max: int) -> tuple[bytes, ...]:
        """The oldest that fit together."""
        chosen: list[bytes] = []
        for raw in self._waiting:
            bytes_max -= len(raw)
            if bytes_max < 0:
                break
            chosen.append(raw)
        return tuple(chosen)

    def settle(self) -> None:
        """Forget what no longer convicts: it is in a block, or too old by now."""
        self._waiting = {raw: None for raw in self._waiting if self._convicts(raw)}


class Witness:
    """Takes accusations of this replica and of peers, and passes on what is new.

    Args:
        pool: where it waits.
        network: a handler is registered here.
        validators: who proposes now.
        wake: there is something for a block.
    """

    def __init__(
        self,
        pool: EvidencePool,
        network: Network,
        validators: Callable[[], ValidatorSet],
        wake: Callable[[], None],
    ) -> None:
        self._pool = pool
        self._network = network
        self._validators = validators
        self._wake = wake
        network.on_message(Accusation, self._hear)

    def accuse(self, accuse: Accuse) -> None:
        """Take two messages that this replica received and no honest validator signs both."""
        try:
            raw = encode(evidence_of(accuse.first, accuse.second))
        except RemoteError as error:  # opened before, so its body is what its kind says
            log.warning("evidence not kept", why=error.what)
            return
        if len(raw) <= EVIDENCE_BYTES_MAX:
            self._take(raw)

    def _hear(self, incoming: Incoming) -> None:
        assert isinstance(incoming.message, Accusation)
        # Refused evidence is no offence: it may be in a block here that the peer lacks.
        self._take(incoming.message.evidence)

    def _take(self, raw: bytes) -> None:
        if not self._pool.add(raw):
            return
        metrics.inc("prsm_consensus_equivocations_total")
        log.warning("a validator signed what no honest one signs", bytes=len(raw))
        for validator in self._validators().validators:
            peer = PeerId(validator.peer_id)
            if peer != self._network.peer_id:
                self._network.send_nowait(peer, Accusation(evidence=raw), channel=Channel.CTL)
        self._wake()
