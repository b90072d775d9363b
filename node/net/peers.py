"""The live peers of a node: one conversation each, redialled, scored, banned.

Knows connections by the small port below, hellos and back-off. Must not know libp2p or memory
pipes, nor what messages mean.

Invariants: at most one link of a peer is the one messages take; of two connections of a pair
the one dialled by the lower PeerId stays, both sides judge alike, and the other is closed when
nothing is open on it. Of two by the same dialler the later stays: the earlier is dead. One through
a relay gives way to any other.
"""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, Protocol
from weakref import WeakValueDictionary

import trio

from prsm.node.net.bans import Bans
from prsm.node.net.calls import Conversation, Handlers
from prsm.node.net.dials import Dials
from prsm.node.net.entry import EntryRules, PeerFull
from prsm.node.net.handshake import ChainIdentity, Greeter, turn_strangers_away, turn_surplus_away
from prsm.node.net.interface import Channel, PeerEvent, PeerHandler, PeerInfo, PeerUnreachable
from prsm.node.net.keepers import Keepers
from prsm.node.net.lanes import Lanes
from prsm.node.net.streams import Duplex, StreamLost
from prsm.node.net.ways import Way, open_yielding
from prsm.protocol.errors import PrsmError, RemoteError
from prsm.protocol.identity import is_circuit
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.net import Hello

DIAL_DEADLINE_S: Final = 5.0
HANDSHAKE_DEADLINE_S: Final = 5.0
CLOSE_DEADLINE_S: Final = 2.0
RETIRE_AFTER_S: Final = 1.0  # what the peer sent before it knew of the other connection
RETIRE_LONGEST_S: Final = 10.0  # a request's deadline
RETIRE_LOOK_S: Final = 0.1

log = logging.getLogger(__name__)


class Connection(Protocol):
    """An authenticated connection to one peer, as a transport hands it over."""

    @property
    def peer(self) -> PeerId:
        """Who the other side has proved to be."""
        ...

    @property
    def address(self) -> str:
        """Where it is, for people."""
        ...

    @property
    def outbound(self) -> bool:
        """Whether we dialled."""
        ...

    @property
    def way(self) -> Way | None:
        """What lies below and queues more than a kernel does; None over a wire."""
        ...

    async def stream(self, channel: Channel) -> Duplex:
        """Open a kept stream, or wait for the dialler to open it.

        Raises:
            StreamLost: the connection ended.
        """
        ...

    async def close(self) -> None:
        """Close it; never raises."""
        ...


Dial = Callable[[PeerId, str], Awaitable[Connection]]  # raises PeerUnreachable


class Link:
    """A connection with its conversation, once both sides agreed on the network."""

    def __init__(
        self, connection: Connection, hello: Hello, conversation: Conversation, *, since_ms: int
    ) -> None:
        self.connection = connection
        self.is_relayed = is_circuit(connection.address)
        self.hello = hello
        self.conversation = conversation
        self.since_ms = since_ms
        self._info: PeerInfo | None = None

    def info(self) -> PeerInfo:
        """What people may know of it; asked for several times a second."""
        rtt_ms = self.conversation.rtt_ms
        if self._info is None or self._info.rtt_ms != rtt_ms:
            connection, hello = self.connection, self.hello
            self._info = PeerInfo(
                *(connection.peer, connection.address, connection.outbound),
                since_ms=self.since_ms,
                rtt_ms=rtt_ms,
                agent=hello.agent,
                schema=hello.schema,
            )
        return self._info


class Peers:
    """All links of a node, and the addresses it wants to be linked to.

    Args:
        us: our own identity.
        chain: what our hello says.
        bans: who is neither dialled nor let in.
        lanes: what peers may use; their clock is the node's.

    Attributes:
        entry: who may be linked at all.
        elsewhere: whom one may dial who is seen at an address and finds no place here.
    """

    def __init__(self, us: PeerId, chain: ChainIdentity, *, bans: Bans, lanes: Lanes) -> None:
        self.us = us
        self.handlers = Handlers()
        self.bans = bans
        self.entry = EntryRules()
        self.elsewhere: Callable[[str], Sequence[str]] = lambda _address: ()
        self._greeter = Greeter(chain)
        self._now_ms = lanes.now_ms
        self._lanes = lanes
        self._events: list[PeerHandler] = []
        self._links: dict[PeerId, Link] = {}
        self._retiring: set[Link] = set()
        self._keepers = Keepers(us, self._reach, self._links.__contains__)
        self._dialling: WeakValueDictionary[PeerId, trio.Lock] = WeakValueDictionary()
        self._dials = Dials()
        self._nursery: trio.Nursery | None = None
        self._dial: Dial | None = None
        self._addresses: Callable[[], tuple[str, ...]] = tuple

    def on_peer(self, handler: PeerHandler) -> None:
        """Be told of peers that come and go."""
        self._events.append(handler)

    def infos(self) -> tuple[PeerInfo, ...]:
        """The live peers, in order of their ids."""
        return tuple(self._links[peer].info() for peer in sorted(self._links))

    def held(self) -> dict[PeerId, int]:
        """Bytes kept for each peer, over a connection that retires, too."""
        held: Counter[PeerId] = Counter()
        for link in (*self._links.values(), *self._retiring):
            held[link.connection.peer] += link.conversation.held_bytes
        return held

    def find(self, peer: PeerId) -> Conversation | None:
        """The conversation messages to that peer take now."""
        link = self._links.get(peer)
        return link.conversation if link else None

    def need(self, peer: PeerId) -> Conversation:
        """The conversation with a live peer.

        Raises:
            PeerUnreachable: it has none.
        """
        link = self._links.get(peer)
        if link is None:
            raise PeerUnreachable(f"no connection to peer {peer}")
        return link.conversation

    async def run(
        self,
        dial: Dial,
        addresses: Callable[[], tuple[str, ...]],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve connections and keep the wanted peers linked, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery, self._dial, self._addresses = nursery, dial, addresses
            self._keepers.start(nursery)
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:  # before the nursery closes: tasks of other rooms may still run, and dial
                self._nursery = self._dial = None
                self._keepers.stop()

    async def connect(self, peer: PeerId, address: str, *, hint: str) -> None:
        """Link to a peer and keep it linked; raises as `Keepers.connect`."""
        try:
            await self._keepers.connect(peer, address, hint=hint)
        finally:  # in vain: who gave the peer up meanwhile has left its link to this dial
            link = self._links.get(peer)
            if link and link.connection.outbound and not self._keepers.is_wanted(peer):
                self.drop(peer, PeerUnreachable(f"peer {peer} is not wanted any more"))

    async def disconnect(self, peer: PeerId, *, hint: str) -> None:
        """Stop redialling a peer and close its link, unless others want it."""
        await trio.lowlevel.checkpoint()
        if not self._keepers.forget(peer, hint=hint):
            return
        link = self._links.get(peer)
        if link is None or link.connection.outbound or not hint:
            self.drop(peer, PeerUnreachable(f"peer {peer} was disconnected"))

    def drop(self, peer: PeerId, why: PrsmError) -> None:
        """Close a peer's link now; it may be redialled."""
        surplus = [link for link in self._retiring if link.connection.peer == peer]
        for link in (*surplus, *filter(None, [self._links.get(peer)])):
            link.conversation.drop(why)

    def penalise(self, peer: PeerId, error: RemoteError) -> None:
        """Count a fault; a ban closes the link."""
        if self.bans.penalise(peer, error):
            self.drop(peer, error)

    async def accept(self, connection: Connection) -> None:
        """Serve a connection a peer opened, until it ends; raises nothing of the peer's."""
        try:
            await self._serve(connection)
        except PrsmError as error:
            log.info("peer %s turned away: %s", connection.peer, error.what)

    # -- dialling

    async def _reach(self, peer: PeerId, address: str) -> None:
        lock = self._dialling.setdefault(peer, trio.Lock())
        async with lock, self._dials.turn():  # meanwhile the peer itself may have dialled
            link = self._links.get(peer)
            if not self._keepers.is_wanted(peer):
                raise PeerUnreachable(f"peer {peer} is not wanted any more")
            if link and (not link.is_relayed or is_circuit(address)):
                return
            if self._nursery is None or self._dial is None:
                raise PeerUnreachable("the network is not running")
            self.bans.refuse(peer)
            self.entry.refuse_stranger(peer)
            try:
                with trio.fail_after(DIAL_DEADLINE_S):
                    connection = await self._dial(peer, address)
            except trio.TooSlowError:
                what = f"{address} did not answer in {DIAL_DEADLINE_S:g} s"
                raise PeerUnreachable(what) from None
            await self._serve_in_run(connection)

    async def _serve_in_run(self, connection: Connection) -> None:
        """Hand a connection to the network's run, which may have ended while it was dialled."""
        if self._nursery is None:
            with trio.move_on_after(CLOSE_DEADLINE_S, shield=True):
                await connection.close()
            raise PeerUnreachable("the network is not running")
        await self._nursery.start(self._serve, connection)

    # -- serving

    async def _serve(
        self,
        connection: Connection,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Greet and converse; errors before the link is up are raised, later ones are not."""
        peer = connection.peer
        try:
            ctl, hello = await self._greet(connection)
            self._refuse_surplus(connection)  # again: others have greeted meanwhile
            fault = partial(self.penalise, peer)
            conversation = Conversation(
                peer, self.handlers, on_fault=fault, schema=hello.schema, lanes=self._lanes
            )
            link = Link(connection, hello, conversation, since_ms=self._now_ms())
            self._register(link)
            task_status.started()
            await self._converse(link, ctl)
        finally:
            with trio.move_on_after(CLOSE_DEADLINE_S, shield=True):
                await connection.close()

    async def _greet(self, connection: Connection) -> tuple[Duplex, Hello]:
        peer = connection.peer
        self.bans.refuse(peer)
        if peer == self.us:
            raise PeerUnreachable("a connection to ourselves")
        try:
            with trio.fail_after(HANDSHAKE_DEADLINE_S):
                ctl = await self._let_in(connection)
                addresses, dialler = self._addresses(), connection.outbound
                return ctl, await self._greeter.greet(ctl, peer, addresses, dialler=dialler)
        except trio.TooSlowError:
            raise StreamLost(f"no hello within {HANDSHAKE_DEADLINE_S:g} s") from None
        except RemoteError as error:
            error.peer = peer
            self.penalise(peer, error)
            raise

    async def _let_in(self, connection: Connection) -> Duplex:
        """The control stream, unless there is no place for the peer, or it is not wanted."""
        full: PeerFull | None = None
        try:
            self._refuse_surplus(connection)
        except PeerFull as error:
            full = error
        if full is not None and connection.outbound:
            raise full
        ctl = await connection.stream(Channel.CTL)
        if full is not None:
            await turn_surplus_away(ctl, full, self.elsewhere(connection.address))
            raise full
        await turn_strangers_away(self.entry, ctl, connection.peer)
        return ctl

    def _refuse_surplus(self, connection: Connection) -> None:
        if connection.peer not in self._links:  # of a pair one goes
            inbound = sum(not link.connection.outbound for link in self._links.values())
            ours = connection.outbound or self._keepers.is_wanted(connection.peer)
            self.entry.refuse_surplus(len(self._links), inbound, wanted=ours)

    async def _converse(self, link: Link, ctl: Duplex) -> None:
        peer = link.connection.peer
        why = "the network stops"
        try:
            await link.conversation.run(ctl, self._opener(link.connection))
        except RemoteError as error:
            why = error.what
            error.peer = peer
            self.penalise(peer, error)
        except PrsmError as error:
            why = error.what
        finally:
            self._unregister(link, why)

    def _opener(self, connection: Connection) -> Callable[[Channel], Awaitable[Duplex]]:
        """How to open its further streams; where votes share a circuit with them, they yield."""
        if connection.way is None:
            return connection.stream
        is_validator = partial(self._lanes.accounts.is_validator, connection.peer)
        return partial(open_yielding, connection.stream, connection.way, is_validator)

    def _register(self, link: Link) -> None:
        peer = link.connection.peer
        current = self._links.get(peer)
        if current is None:
            self._links[peer] = link
            self._keepers.hear()
            self._tell(PeerEvent(peer=peer, up=True))
            return
        if not self._outranks(link, current):
            self._retire(link)
            return
        self._links[peer] = link
        if current.connection.outbound == link.connection.outbound:
            current.conversation.drop(PeerUnreachable(f"peer {peer} connected anew"))
        else:
            self._retire(current)

    def _retire(self, link: Link) -> None:
        self._retiring.add(link)
        if self._nursery is not None:
            self._nursery.start_soon(_close_when_idle, link)

    def _outranks(self, link: Link, current: Link) -> bool:
        if link.is_relayed != current.is_relayed:
            return current.is_relayed
        if link.connection.outbound == current.connection.outbound:
            return True
        dialler = self.us if link.connection.outbound else link.connection.peer
        return dialler == min(self.us, link.connection.peer)

    def _unregister(self, link: Link, why: str) -> None:
        peer = link.connection.peer
        self._retiring.discard(link)
        if self._links.get(peer) is not link:
            return
        del self._links[peer]
        self._keepers.lose()
        log.info("peer %s lost: %s", peer, why)
        is_banned = bool(self.bans.banned_ms(peer))
        self._tell(PeerEvent(peer=peer, up=False, why=why, is_banned=is_banned))

    def _tell(self, event: PeerEvent) -> None:
        for handler in self._events:
            try:
                handler(event)
            except Exception:
                log.exception("a receiver of peer events failed")


async def _close_when_idle(link: Link) -> None:
    """Close the surplus connection of a pair once nothing is open on it."""
    with trio.move_on_after(RETIRE_LONGEST_S - RETIRE_AFTER_S):
        await trio.sleep(RETIRE_AFTER_S)
        while not link.conversation.idle:  # noqa: ASYNC110 - a look 10 times a second, for 9 s
            await trio.sleep(RETIRE_LOOK_S)
    link.conversation.drop(PeerUnreachable(f"a second connection to {link.connection.peer}"))
