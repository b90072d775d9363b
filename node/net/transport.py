"""How a node's network and what moves its bytes look to each other.

Knows connections, records and peers. Must not know libp2p or memory pipes, nor who is scored how.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import trio

from prsm.node.net.meters import Counts
from prsm.node.net.peers import Connection
from prsm.protocol.errors import RemoteError
from prsm.protocol.ids import PeerId

Accept = Callable[[Connection], Awaitable[None]]  # serves until the connection ends


@dataclass(frozen=True, slots=True)
class Hooks:
    """What a transport calls; none of them raises.

    Attributes:
        accept: serves a connection a peer opened, until it ends.
        judge: topic, forwarder, record: whether to pass it on.
        admits: whether a peer has shaken hands.
        blame: counts what a peer did wrong below the conversation.
        is_banned: whether a peer is kept out now.
        meter: counts what a peer gossips; whether it may be looked at.
        author: counts a message against its signer; whether it may be looked at.
        worth: what the gossip mesh goes by: whether a peer did something for us lately.
    """

    accept: Accept
    judge: Callable[[str, PeerId, bytes], bool]
    admits: Callable[[PeerId], bool]
    blame: Callable[[PeerId, RemoteError], None]
    is_banned: Callable[[PeerId], bool] = lambda _peer: False
    meter: Callable[[PeerId, Counts], bool] = lambda _peer, _counts: True
    author: Callable[[bytes], bool] = lambda _author: True
    worth: Callable[[PeerId], int] = lambda _peer: 0


class Transport(Protocol):
    """How bytes and gossip move: libp2p or memory."""

    @property
    def peer_id(self) -> PeerId:
        """Our identity."""
        ...

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where it listens, with /p2p/; empty when it does not run."""
        ...

    async def run(
        self,
        topics: Sequence[str],
        hooks: Hooks,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Listen and serve until cancelled; started once it listens. May be run again."""
        ...

    async def dial(self, peer: PeerId, address: str) -> Connection:
        """Open a connection.

        Raises:
            PeerUnreachable: nobody of that identity answers there.
        """
        ...

    async def publish(self, topic: str, record: bytes) -> None:
        """Hand a record to the gossip mesh; hints may be lost."""
        ...

    def held(self) -> Mapping[PeerId, int]:
        """Bytes kept for each peer: read and not asked for, or gossip not written yet."""
        ...

    def counts(self) -> Mapping[str, int]:
        """What is open now, and how often something was refused, by name."""
        ...
