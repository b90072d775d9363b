"""Bitswap with all peers: what they want is answered, what we want is asked for, nothing else kept.

Knows streams by the small port below, budgets and a shelf of blocks. Must not know libp2p, files
or who may connect. What stock libp2p 0.8.1 does, measured, is in docs/adr/0013: it stores blocks
nobody asked for, answers on the asker's stream, keeps wantlists without bound.

Invariants: one task writes to a peer, on a stream this node opened; a block is hashed, and handed
on only if that peer was asked for it; what is kept of a peer is bounded, whatever it sends.
"""

import hashlib
import logging
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final, Protocol

import trio

from prsm.node.net.bitswap.asked import REASK_MS, Ask
from prsm.node.net.bitswap.lines import WRITE_DEADLINE_S, Line, MessageReader, send
from prsm.node.net.bitswap.talk import Probe, Talk, Waiting
from prsm.node.net.bitswap.wanted import Want
from prsm.node.net.bitswap.wire import (
    MESSAGE_BYTES_MAX,
    QUIET_BYTES_MAX,
    Message,
    Presence,
    decode_message,
    digest_of,
    encode_block,
    encode_presences,
    encode_wants,
    is_sha256,
)
from prsm.node.net.budgets import Traffic
from prsm.node.net.interface import PeerUnreachable
from prsm.node.net.lanes import Lane, Lanes
from prsm.node.net.streams import StreamLost
from prsm.protocol.errors import LocalError
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import BLOCK_BYTES_MAX
from prsm.storage.cid import Cid
from prsm.storage.errors import NotFound, SourceDown, SourceSlow

OPEN_DEADLINE_S: Final = 5.0
TOLD_MAX: Final = 512  # presences in one message
PROBE_S: Final = 2.0

log = logging.getLogger(__name__)


OpenLine = Callable[[PeerId], Awaitable[Line]]  # raises PeerUnreachable


class Shelf(Protocol):
    """What the server needs of a store; `storage.store.blocks.Blocks` has it."""

    async def held(self, digests: Sequence[bytes]) -> Mapping[bytes, int]:
        """Digest and size of those that are here, leaves and nodes alike."""
        ...

    async def get(self, digest: bytes) -> bytes:
        """The block, checked; NotFound if it is not here."""
        ...


class Bitswap:
    """Bitswap of one node with all its IPFS peers.

    Args:
        shelf: where blocks are served from.
        open_line: opens a stream to a peer that is connected.
        lanes: what peers may use, shared with everything else of this node.
    """

    def __init__(self, shelf: Shelf, open_line: OpenLine, lanes: Lanes) -> None:
        self._shelf = shelf
        self._open_line = open_line
        self._lanes = lanes
        self._talks: dict[PeerId, Talk] = {}
        self._nursery: trio.Nursery | None = None
        self._counts: Counter[str] = Counter()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Let peers be written to, until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._nursery = None
            for peer in list(self._talks):
                self.lost(peer)

    def counts(self) -> Mapping[str, int]:
        """Blocks and bytes served and taken, and what was dropped, by name."""
        return dict(self._counts)

    def expects(self, peer: PeerId) -> bool:
        """Whether blocks of that peer are on their way to us."""
        talk = self._talks.get(peer)
        return talk is not None and not talk.asked.is_idle

    def is_busy(self, peer: PeerId) -> bool:
        """Whether either side waits for the other."""
        talk = self._talks.get(peer)
        return talk is not None and talk.has_work

    def lost(self, peer: PeerId) -> None:
        """Forget a peer whose connection ended; whoever waits for it is told."""
        talk = self._talks.pop(peer, None)
        if talk is not None:
            talk.fail(SourceDown(f"the connection to {peer} ended"))
            if talk.scope is not None:
                talk.scope.cancel()

    async def handle(self, peer: PeerId, line: Line) -> None:
        """Read a stream a peer opened, until it ends.

        Raises:
            StreamLost: the peer ended or broke it.
            WireError: it sends what no honest peer does.
        """
        talk = self._talk(peer)
        with self._lanes.lane(peer) as lane:
            reader = MessageReader(line, lane)
            while True:
                quiet = talk.asked.is_idle
                most = QUIET_BYTES_MAX if quiet else MESSAGE_BYTES_MAX
                raw = await reader.read(most)
                if raw is None:
                    self._counts["messages_skipped"] += 1
                else:
                    self._take(peer, talk, decode_message(raw))
                del raw  # as large as a message; not kept while the next one is waited for
                await lane.after_frame(Traffic.STORAGE)

    async def ask(self, peer: PeerId, cids: Sequence[Cid]) -> Sequence[bytes]:
        """Ask a peer for blocks; the caller sets the deadline.

        Returns:
            The blocks up to the first that the peer lacks or did not send; at least one. Each has
            the hash that was asked for.

        Raises:
            NotFound: the peer says that it does not hold the first.
            SourceDown: there is no connection, or it ended.
            SourceSlow: nothing came, although it was asked for four times; or too much is asked
                for already.
        """
        await trio.lowlevel.checkpoint()
        talk, ask, waiting = self._talk(peer), Ask(tuple(cids)), Waiting()
        if not talk.asked.add(ask):
            raise SourceSlow(f"too much is asked of {peer} already")
        talk.waiting[ask] = waiting
        try:
            self._stir(peer, talk)
            await waiting.done.wait()
        finally:
            del talk.waiting[ask]
            gone = talk.asked.drop(ask)
            if gone and waiting.error is None:
                talk.control.append(encode_wants(gone, cancel=True))
                self._stir(peer, talk)
        if blocks := ask.prefix():
            return blocks
        if ask.is_refused:
            raise NotFound(f"{peer} does not hold {cids[0]}")
        raise waiting.error or SourceDown(f"{peer} sent nothing")

    async def probe(self, peer: PeerId, cid: Cid) -> bool | None:
        """Ask a peer whether it holds a block; None if it does not say so in 2 s.

        Raises:
            SourceDown: there is no connection, or it ended.
        """
        await trio.lowlevel.checkpoint()
        talk, probe = self._talk(peer), Probe(cid)
        talk.probes.append(probe)
        talk.control.append(encode_wants((cid,), want_have=True))
        try:
            self._stir(peer, talk)
            with trio.move_on_after(PROBE_S):
                await probe.done.wait()
        finally:
            talk.probes.remove(probe)
        if probe.answer is None and self._talks.get(peer) is not talk:
            raise SourceDown(f"the connection to {peer} ended")
        return None if probe.answer is None else probe.answer is Presence.HAVE

    # -- reading

    def _take(self, peer: PeerId, talk: Talk, message: Message) -> None:
        """Take in one message; nothing of it waits."""
        if message.entries or message.is_full:
            surplus = talk.wanted.surplus
            refused = talk.wanted.take(message.entries, is_full=message.is_full)
            self._counts["wants_surplus"] += talk.wanted.surplus - surplus
            talk.told.extend(refused[: TOLD_MAX - len(talk.told)])
        self._drop(message.bare_blocks)
        for prefix, data in message.blocks:
            self._take_block(talk, prefix, data)
        for cid, presence in message.presences:
            self._take_presence(talk, cid, presence)
        self._stir(peer, talk)

    def _take_block(self, talk: Talk, prefix: memoryview, data: memoryview) -> None:
        is_idle = talk.asked.is_idle and not talk.probes
        if is_idle or len(data) > BLOCK_BYTES_MAX or not is_sha256(prefix):
            self._drop(1, len(data))
            return
        digest = hashlib.sha256(data).digest()
        for probe in talk.probes:  # a small block comes in place of the word that it is there
            if probe.cid.digest == digest:
                probe.answer = Presence.HAVE
                probe.done.set()
        if not talk.asked.expects(digest):
            self._drop(1, len(data))
            return
        self._counts["blocks_taken"] += 1
        self._counts["bytes_taken"] += len(data)
        self._settle(talk, digest, bytes(data))

    def _take_presence(self, talk: Talk, cid: bytes, presence: Presence) -> None:
        digest = digest_of(cid)
        if digest is None:
            return
        for probe in talk.probes:
            if probe.cid.digest == digest:
                probe.answer = presence
                probe.done.set()
        if presence is Presence.DONT_HAVE and talk.asked.expects(digest):
            self._settle(talk, digest, None)

    def _settle(self, talk: Talk, digest: bytes, block: bytes | None) -> None:
        for ask in talk.asked.settle(digest, block, now_ms=_now_ms()):
            talk.waiting[ask].done.set()

    def _drop(self, blocks: int, size: int = 0) -> None:
        self._counts["blocks_dropped"] += blocks
        self._counts["bytes_dropped"] += size

    # -- writing

    def _talk(self, peer: PeerId) -> Talk:
        if peer not in self._talks:
            self._talks[peer] = Talk()
        return self._talks[peer]

    def _stir(self, peer: PeerId, talk: Talk) -> None:
        """Have what waits written; begins a sender if there is none."""
        talk.wake.set()
        if talk.scope is not None or not talk.has_work:
            return
        if self._nursery is None or self._talks.get(peer) is not talk:
            talk.fail(SourceDown("bitswap does not run"))
            return
        talk.scope = trio.CancelScope()
        self._nursery.start_soon(self._write, peer, talk, talk.scope)

    async def _write(self, peer: PeerId, talk: Talk, scope: trio.CancelScope) -> None:
        """Write to one peer until it is lost, or takes nothing any more."""
        try:
            with scope, self._lanes.lane(peer) as lane:
                while True:
                    await self._write_stream(peer, talk, lane)
        except (PeerUnreachable, trio.TooSlowError) as error:
            log.debug("bitswap with %s: %s", peer, error)
            talk.fail(SourceDown(f"{peer} cannot be written to: {error}"))
            # Nobody is told, so nothing may be kept for it: it asks again if it still wants.
            talk.wanted.take((), is_full=True)
            talk.told.clear()
            talk.control.clear()
        finally:
            talk.scope = None

    async def _write_stream(self, peer: PeerId, talk: Talk, lane: Lane) -> None:
        """Open a stream and write to it until it breaks; what was not written waits again.

        Raises:
            PeerUnreachable: there is none, or it took not even one message.
            trio.TooSlowError: the peer takes nothing.
        """
        with trio.fail_after(OPEN_DEADLINE_S):
            line = await self._open_line(peer)
        took_one = False
        try:
            while True:
                await self._write_next(talk, line, lane)
                took_one = True
        except StreamLost:
            if not took_one:
                raise
        finally:
            with trio.move_on_after(WRITE_DEADLINE_S / 5, shield=True):
                await line.close()

    async def _write_next(self, talk: Talk, line: Line, lane: Lane) -> None:
        """Write what is due: our wants, words, then one block; else wait for something."""
        talk.wake = trio.Event()
        now_ms = _now_ms()
        if talk.asked.stalled(now_ms=now_ms):
            talk.fail(SourceSlow("what was asked for did not come"))
        if window := talk.asked.window(now_ms=now_ms):
            await send(line, lane, encode_wants(window))
        elif talk.control:
            await send(line, lane, talk.control.popleft())
        elif talk.told and (len(talk.told) >= TOLD_MAX or not len(talk.wanted)):
            await send(line, lane, encode_presences(talk.told[:TOLD_MAX]))
            del talk.told[:TOLD_MAX]
        elif (want := talk.wanted.next()) is not None:
            await self._answer(want, talk, line, lane)
        else:
            with trio.move_on_after(math.inf if talk.asked.is_idle else REASK_MS / 1000):
                await talk.wake.wait()

    async def _answer(self, want: Want, talk: Talk, line: Line, lane: Lane) -> None:
        if want.is_have:
            is_here = await self._is_here(want.digest)
            if is_here or want.send_dont_have:
                presence = Presence.HAVE if is_here else Presence.DONT_HAVE
                talk.told.append((want.cid, presence))
            return
        try:
            block = await self._shelf.get(want.digest)
        except LocalError as error:
            if not isinstance(error, NotFound):
                log.warning("block %s is not served: %s", want.digest.hex()[:16], error.what)
            if want.send_dont_have:
                talk.told.append((want.cid, Presence.DONT_HAVE))
            return
        head, data = encode_block(want.cid, block)
        try:
            await send(line, lane, head + data)
        except StreamLost:
            talk.wanted.put_back(want)
            raise
        self._counts["blocks_served"] += 1
        self._counts["bytes_served"] += len(data)

    async def _is_here(self, digest: bytes) -> bool:
        with suppress(LocalError):
            return digest in await self._shelf.held((digest,))
        return False


def _now_ms() -> int:
    return int(trio.current_time() * 1000)
