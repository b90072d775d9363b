"""Clients on the control stream: dial all validators, send, hear what became of it.

Knows: peers, frames, pace. Must not know: processes, genesis files, how figures are printed.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, final

import trio

from prsm.node.net.handshake import ChainIdentity
from prsm.node.net.host import libp2p_network
from prsm.node.net.interface import Channel, Incoming
from prsm.node.net.network import PeerNetwork
from prsm.protocol.genesis import Genesis
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.notices import Included, Refused, Watch
from prsm.protocol.messages.sync import Submit
from prsm.protocol.signing import sha256
from prsm.testnet.bench.book import Book

STEP_SECONDS: Final = 0.01  # between two frames to a validator
STEP_TRANSACTIONS: Final = 50  # above this many a step, frames come less often: 200 KiB at most
FRAME_TRANSACTIONS_MAX: Final = 1_000
AGENT: Final = "prsm-bench"


@final
class Client:
    """One peer without a vote, with what it sent.

    Args:
        seed: 32 bytes of its identity.
        genesis: of the network.
        addresses: of all validators.
    """

    def __init__(self, seed: bytes, genesis: Genesis, addresses: Sequence[str]) -> None:
        identity = ChainIdentity(genesis.chain_id, genesis.digest, agent=AGENT)
        self.network: PeerNetwork = libp2p_network(seed, identity, listen=["/ip4/127.0.0.1/tcp/0"])
        self.validators = tuple(PeerId(v.peer_id) for v in genesis.validators)
        self.book = Book({PeerId(v.peer_id): v.stake for v in genesis.validators})
        self.heights: dict[int, int] = {}  # height -> transactions of ours that are final there
        self.unsent = 0  # frames a connection had no room for
        self._addresses = addresses
        self._changed = trio.Event()
        self.network.on_message(Included, self._hear_included)
        self.network.on_message(Refused, self._hear_refused)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Be connected to all validators and watch, until cancelled."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.network.run)
            for address in self._addresses:
                peer = await self.network.connect(address)
                await self.network.send(peer, Watch(wanted=True), channel=Channel.CTL)
            task_status.started()

    def send(self, raws: Sequence[bytes]) -> None:
        """Send transactions to every validator, as few frames as their bounds allow."""
        for start in range(0, len(raws), FRAME_TRANSACTIONS_MAX):
            frame = Submit(transactions=tuple(raws[start : start + FRAME_TRANSACTIONS_MAX]))
            for peer in self.validators:
                if not self.network.send_nowait(peer, frame, channel=Channel.CTL):
                    self.unsent += 1

    async def wait_change(self) -> None:
        """Wait for the next word of a validator."""
        await self._changed.wait()

    def _hear_included(self, incoming: Incoming) -> None:
        notice = incoming.message
        assert isinstance(notice, Included)
        became = self.book.hear_included(incoming.peer, notice, trio.current_time())
        if became:
            self.heights[notice.height] = self.heights.get(notice.height, 0) + len(became)
        self._wake()

    def _hear_refused(self, incoming: Incoming) -> None:
        assert isinstance(incoming.message, Refused)
        self.book.hear_refused(incoming.peer, incoming.message, trio.current_time())
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast and how long.

    Attributes:
        rate: transactions a second.
        seconds: of offering.
    """

    rate: int
    seconds: float


async def offer(client: Client, raws: deque[bytes], pace: Pace) -> float:
    """Send at a fixed rate whatever the answers are, refused ones again when their time comes.

    What is sent leaves `raws`. A ticket is due when the rate says so, not when there was time to
    send it. Returns when the first was due.
    """
    step_s = STEP_SECONDS * max(1.0, min(4.0, pace.rate * STEP_SECONDS / STEP_TRANSACTIONS))
    began = trio.current_time()
    sent = 0
    while (now := trio.current_time()) < began + pace.seconds and raws:
        count = int((now - began) * pace.rate) - sent
        again = client.book.due_again(now, count)
        part = [raws.popleft() for _ in range(min(len(raws), count - len(again)))]
        for i, raw in enumerate(part, start=sent + len(again)):
            client.book.enter(raw, began + i / pace.rate)
        sent += len(again) + len(part)
        client.send([*again, *part])
        await trio.sleep(step_s - (trio.current_time() - began) % step_s)
    return began


async def settle(client: Client, seconds: float) -> None:
    """Wait until nothing is open, at most that long; refused ones are sent again."""
    with trio.move_on_after(seconds):
        while client.book.open:
            with trio.move_on_after(STEP_SECONDS):
                await client.wait_change()
            client.send(client.book.due_again(trio.current_time(), FRAME_TRANSACTIONS_MAX))


async def one_by_one(client: Client, raws: Sequence[bytes], rest_s: float) -> None:
    """Send each when the one before is final and the chain has rested."""
    for raw in raws:
        await trio.sleep(rest_s)
        client.book.enter(raw, trio.current_time())
        client.send([raw])
        await settle(client, 10.0)


async def closed_loop(client: Client, raws: Sequence[bytes], until_s: float) -> None:
    """Send the next as soon as the one before is final."""
    for raw in raws:
        if trio.current_time() >= until_s:
            return
        client.book.enter(raw, trio.current_time())
        client.send([raw])
        while client.book.open:
            await client.wait_change()


async def connected(
    genesis: Genesis, addresses: Sequence[str], count: int, nursery: trio.Nursery
) -> list[Client]:
    """Start clients, each with an identity of its own."""
    clients = [
        Client(sha256(b"prsm bench client", i.to_bytes(4, "big")), genesis, addresses)
        for i in range(count)
    ]
    for client in clients:
        await nursery.start(partial(client.run))
    return clients
