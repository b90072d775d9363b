"""Pull repair at work: asks peers what they have, fetches what is missing, answers their questions.

Knows: the control stream and deadlines. Must not know: signatures or contents (`take` judges), nor
how it is decided whom to ask (`node/net/repair`). Source: docs/spec/wire.md, "Gossip".
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import trio

from prsm.node.clock import Clock
from prsm.node.net.interface import Answer, Busy, Channel, Incoming, Network, PeerEvent
from prsm.node.net.records import Entry, Store
from prsm.node.net.repair import Ask, AskListing, AskRecords, Dice, Repair
from prsm.node.telemetry import logs
from prsm.protocol.errors import PrsmError, RemoteError, WireError
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import GOSSIP_RECORD_BYTES_MAX, PULLED_RECORDS_BYTES_MAX
from prsm.protocol.messages.announce import BLOCKS, Compare, GetRecords, Listing

log = logs.get("repairs")

# A busy peer still answers its heartbeats within 5 s; what it promised is sooner had elsewhere.
COMPARE_SECONDS: Final = 5.0
FETCH_SECONDS: Final = 2.0
BUSY_MS: Final = 500
# Said anew in 5 s while there are blocks: a lost one is made good with whatever is compared next.
FLEETING: Final = frozenset({BLOCKS.name})

# Peer, records, slots that were asked for. Raises RemoteError for what no honest peer sends.
Take = Callable[[PeerId, Sequence[bytes], frozenset[bytes]], Awaitable[None]]


class Repairs:
    """Drives the plan of pull repair.

    Args:
        network: handlers are registered here, before it runs.
        store: what this node has.
        take: judges and keeps what was fetched.
        clock: of the node.
        dice: `dice(n)` gives one of 0 … n - 1.
    """

    def __init__(
        self, network: Network, store: Store, *, take: Take, clock: Clock, dice: Dice
    ) -> None:
        self._network, self._store, self._take, self._clock = network, store, take, clock
        self.plan = Repair(store, dice=dice, now_ms=0)
        self._wake = trio.Event()
        network.on_peer(self._see_peer)
        network.on_call(Compare, self._compare)
        network.on_call(GetRecords, self._give)
        network.on_message(Listing, self._hear_listing)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Compare and fetch until cancelled."""
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                now_ms = self._clock.monotonic_ms()
                for ask in self.plan.plan(now_ms=now_ms, wall_ms=self._clock.wall_ms()):
                    nursery.start_soon(self._ask, ask)
                self._wake = trio.Event()
                wait_ms = self.plan.due_ms(now_ms=now_ms) - self._clock.monotonic_ms()
                with trio.move_on_after(max(0, wait_ms) / 1000):
                    await self._wake.wait()

    def hear_news(self, topic: str) -> None:
        """A record was added: others may have missed it."""
        if topic in FLEETING:
            return
        now_ms = self._clock.monotonic_ms()
        due_ms = self.plan.due_ms(now_ms=now_ms)
        self.plan.hear_news(now_ms=now_ms)
        if self.plan.due_ms(now_ms=now_ms) < due_ms:
            self._wake.set()

    def hear_again(self, identity: bytes) -> None:
        """A record came that is here already."""
        self.plan.hear_again(identity)

    def refuse(self, identity: bytes) -> None:
        """A record is not wanted here: it is not fetched for a while."""
        self.plan.refuse(identity, now_ms=self._clock.monotonic_ms())

    def _see_peer(self, event: PeerEvent) -> None:
        if event.up:
            self.plan.add(event.peer, now_ms=self._clock.monotonic_ms())
        else:
            self.plan.remove(event.peer)
        self._wake.set()

    # -- asking

    async def _ask(self, ask: Ask) -> None:
        try:
            if isinstance(ask, AskListing):
                with trio.fail_after(COMPARE_SECONDS):
                    await self._compare_with(ask)
            else:
                with trio.fail_after(FETCH_SECONDS):
                    await self._fetch(ask)
        except trio.TooSlowError:
            points = self._fail(ask, "no answer in time", silent=isinstance(ask, AskListing))
            if points:
                what = "answers no question about records, and stays"
                self._network.penalise(ask.peer, RemoteError(what, penalty=points))
        except PrsmError as error:
            if isinstance(error, RemoteError):
                self._network.penalise(ask.peer, error)
            self._fail(ask, error.what)
        self._wake.set()

    def _fail(self, ask: Ask, why: str, *, silent: bool = False) -> int:
        log.debug("no repair from a peer", peer=ask.peer, why=why)
        return self.plan.fail(ask, now_ms=self._clock.monotonic_ms(), silent=silent)

    async def _compare_with(self, ask: AskListing) -> None:
        question = self._store.compare(horizon_ms=ask.horizon_ms, cursor=ask.cursor)
        answer, _ = await self._network.call(ask.peer, question, channel=Channel.CTL)
        if not isinstance(answer, Listing):
            raise WireError(f"{type(answer).__name__} is no list of records")
        self.plan.take_listing(ask.peer, answer.entries, now_ms=self._clock.monotonic_ms())
        lacking = self._store.surplus(answer, horizon_ms=ask.horizon_ms)
        if lacking is not None:
            self._network.send_nowait(ask.peer, lacking, channel=Channel.CTL)

    async def _fetch(self, ask: AskRecords) -> None:
        answer, tail = await self._network.call(
            ask.peer, GetRecords(slots=ask.slots), channel=Channel.CTL
        )
        raws = _split(answer, tail)
        await self._take(ask.peer, raws, frozenset(ask.slots))
        self.plan.take_records(
            ask.peer, ask.slots, brought=len(raws), now_ms=self._clock.monotonic_ms()
        )

    # -- answering

    async def _compare(self, incoming: Incoming) -> Answer:
        await trio.lowlevel.checkpoint()
        assert isinstance(incoming.message, Compare)
        if not self.plan.may_compare(incoming.peer, now_ms=self._clock.monotonic_ms()):
            raise Busy("records are compared too often", retry_after_ms=BUSY_MS)
        return self._store.differing(incoming.message), b""

    async def _give(self, incoming: Incoming) -> Answer:
        await trio.lowlevel.checkpoint()
        assert isinstance(incoming.message, GetRecords)
        if not self.plan.may_fetch(incoming.peer, now_ms=self._clock.monotonic_ms()):
            raise Busy("records are fetched too often", retry_after_ms=BUSY_MS)
        items = self._store.pick(incoming.message.slots)
        listing = Listing(topics=(), entries=tuple(item.entry for item in items))
        return listing, b"".join(item.raw for item in items)

    def _hear_listing(self, incoming: Incoming) -> None:
        assert isinstance(incoming.message, Listing)
        now_ms = self._clock.monotonic_ms()
        if self.plan.may_compare(incoming.peer, now_ms=now_ms):
            entries = incoming.message.entries
            if self.plan.hear_listing(incoming.peer, entries, now_ms=now_ms):
                self._wake.set()


def _split(answer: object, tail: bytes) -> list[bytes]:
    """The records of an answer.

    Raises:
        WireError: another answer, or a tail that is not what its list says.
    """
    if not isinstance(answer, Listing):
        raise WireError(f"{type(answer).__name__} is no list of records")
    sizes = [Entry.read(entry).size for entry in answer.entries]
    if len(tail) > PULLED_RECORDS_BYTES_MAX or sum(sizes) != len(tail):
        raise WireError(f"{sum(sizes)} bytes of records listed, {len(tail)} sent")
    if sizes and max(sizes) > GOSSIP_RECORD_BYTES_MAX:
        raise WireError(f"a record of {max(sizes)} bytes, at most {GOSSIP_RECORD_BYTES_MAX}")
    raws: list[bytes] = []
    start = 0
    for size in sizes:
        raws.append(bytes(tail[start : start + size]))
        start += size
    return raws
