"""The answers to one request, told side by side.

Knows: that each is read until it is over. Must not know: HTTP, the form of an answer.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import trio

from prsm.node.rpc.errors import Unauthorised
from prsm.node.web.openai.texts import Telling
from prsm.protocol.errors import PrsmError

END_S: Final = 5.0  # for what is done when a client has gone
Say = Callable[[Telling, str], Awaitable[None]]


@asynccontextmanager
async def started(tellings: Sequence[Telling]) -> AsyncIterator[None]:
    """Begin all of them; whichever is not over at the end of the block is ended.

    Raises:
        PrsmError: one is refused.
    """
    try:
        for telling in tellings:
            await telling.start()
        yield
    finally:
        with trio.move_on_after(END_S, shield=True):
            for telling in tellings:
                await telling.end()


async def tell(tellings: Sequence[Telling], is_live: Callable[[], bool], say: Say) -> None:
    """Read all of them to their ends, and say what they tell, one thing at a time.

    Args:
        tellings: begun.
        is_live: does the token that asked for them still count?
        say: is told each reading, also an empty one.

    Raises:
        PrsmError: why one failed; the others are not read further.
        Unauthorised: the token ended or was taken back meanwhile.
    """
    turn = trio.Lock()
    failed: list[PrsmError] = []

    async def follow(telling: Telling) -> None:
        try:
            while not telling.is_over:
                if not is_live():
                    raise Unauthorised("the token ended, or was taken back, since the text began")
                text = await telling.read()
                async with turn:
                    await say(telling, text)
        except PrsmError as error:  # out of the nursery it would be a group
            failed.append(error)
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for telling in tellings:
            nursery.start_soon(follow, telling)
    if failed:
        raise failed[0]
