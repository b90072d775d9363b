"""How a row of what a hostile peer says is written down; the rows are in the two modules beside."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum

from prsm.node.net.handshake import ChainIdentity
from prsm.protocol.ids import PeerId
from prsm.testnet.hostile import Gone, Hostile


class Fate(Enum):
    """What becomes of who says it."""

    STRANGER = "nobody knows who it was; its socket is closed"
    CLOSED = "its connection is closed"
    BANNED = "it is kept out"
    BORNE = "nothing: an honest peer might do it once"


@dataclass
class Attack:
    """Who says it, to whom, and over what."""

    seed: bytes
    port: int
    victim: PeerId
    chain: ChainIdentity
    hostile: Hostile | None = None
    ctl: int = 0

    @property
    def peer(self) -> Hostile:
        assert self.hostile is not None
        return self.hostile


Say = Callable[[Attack], Awaitable[None]]


@dataclass(frozen=True)
class Insult:
    """One row: what is said, whether after an honest hello, and what comes of it."""

    name: str
    say: Say
    fate: Fate
    greets: bool = False
    why: str = ""


class Table(list[Insult]):
    """Rows in the order they are written."""

    def row(self, fate: Fate, *, greets: bool = False, why: str = "") -> Callable[[Say], Say]:
        """Add a function as a row of the table."""

        def add(say: Say) -> Say:
            self.append(Insult(say.__name__, say, fate, greets, why))
            return say

        return add


async def until_gone(say: Callable[[], Awaitable[None]], times: int) -> None:
    """Say something again and again, until nobody listens any more."""
    with suppress(Gone):
        for _ in range(times):
            await say()
