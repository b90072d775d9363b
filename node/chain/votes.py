"""The order in which validators' messages are checked: at once, in batches, or when there is time.

Knows: how many signatures the loop may check at once, and that late votes may wait. Must not know:
keys, or what a vote does.

Invariants: only messages that hold are handed on; every queue is bounded, and retransmission
brings back what a full one dropped; of one sender, messages that are not late keep their order.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, final

import trio

from prsm.consensus.pbft.opened import Opened
from prsm.node.chain.batches import BATCH_MAX, INLINE_MAX, check_each, drained
from prsm.node.net.interface import Incoming, Network
from prsm.protocol.errors import RemoteError
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.consensus import SignedMessage

VOTES_WAITING_MAX: Final = 4_096
PROMPT_SECONDS: Final = 0.001  # in which `INLINE_MAX` are checked as they come
# Behind the block they came too late for, and before the one after the next: gaps between blocks
# are as long, and votes of two decided heights still convict. Who lacks votes asks after 50 ms.
LATE_SECONDS: Final = 0.01

Check = Callable[[SignedMessage], Opened | RemoteError | None]


@dataclass(frozen=True, slots=True)
class _Vote:
    peer: PeerId
    message: SignedMessage


@final
class Votes:
    """Checks what validators say and hands on what holds.

    Args:
        network: where it arrives; a handler is registered here.
        check: opens a message; an error is its bringer's fault, None is nobody's.
        on_vote: gets each message that holds; must not wait.

    Attributes:
        is_late: may a message wait, since nothing but evidence hangs on it?
        dropped: for want of room.
    """

    def __init__(self, network: Network, check: Check, on_vote: Callable[[Opened], None]) -> None:
        self._network = network
        self._check = check
        self._on_vote = on_vote
        self._in, self._out = trio.open_memory_channel[_Vote](VOTES_WAITING_MAX)
        self._queued = 0  # in the channel, and those of it that are being checked
        self._prompt = 0  # checked as they came since `_prompt_since_s`
        self._prompt_since_s = 0.0
        self._late: list[_Vote] = []
        self._late_came = trio.Event()
        self.is_late: Callable[[SignedMessage], bool] = lambda _message: False
        self.dropped = 0
        network.on_message(SignedMessage, self._hear)

    async def run(self) -> None:
        """Check what could not be checked as it came, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._check_queued)
            nursery.start_soon(self._check_late)

    def _hear(self, incoming: Incoming) -> None:
        assert isinstance(incoming.message, SignedMessage)
        vote = _Vote(incoming.peer, incoming.message)
        if len(self._late) < VOTES_WAITING_MAX and self.is_late(vote.message):
            self._late.append(vote)
            self._late_came.set()
        elif not self._queued and self._is_prompt():
            self._hand_on(vote, self._check(vote.message))
        else:
            self._queue(vote)

    def _is_prompt(self) -> bool:
        """A few votes are checked as they come: another task's turn costs half of a check."""
        now_s = trio.current_time()
        if now_s >= self._prompt_since_s + PROMPT_SECONDS:
            self._prompt, self._prompt_since_s = 0, now_s
        self._prompt += 1
        return self._prompt <= INLINE_MAX

    def _queue(self, vote: _Vote) -> None:
        try:
            self._in.send_nowait(vote)
        except trio.WouldBlock:
            self.dropped += 1
        else:
            self._queued += 1

    async def _check_queued(self) -> None:
        async for first in self._out:
            batch = [first, *drained(self._out)]
            try:
                await self._check_all(batch)
            finally:
                self._queued -= len(batch)

    async def _check_late(self) -> None:
        while True:
            await self._late_came.wait()
            await trio.sleep(LATE_SECONDS)
            self._late_came = trio.Event()
            late, self._late = self._late, []
            for start in range(0, len(late), BATCH_MAX):
                await self._check_all(late[start : start + BATCH_MAX])

    async def _check_all(self, votes: list[_Vote]) -> None:
        results = await check_each(lambda vote: self._check(vote.message), votes)
        for vote, result in zip(votes, results, strict=True):
            self._hand_on(vote, result)

    def _hand_on(self, vote: _Vote, result: Opened | RemoteError | None) -> None:
        if isinstance(result, RemoteError):
            self._network.penalise(vote.peer, result)
        elif result is not None:
            self._on_vote(result)
