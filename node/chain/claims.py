"""Who claims which height, and who is asked: peers that were silent, unable or lied wait.

Pure: times are monotonic milliseconds handed in. Must not know blocks, certificates or streams.
Invariants: a claim is a hint and is never believed; what is remembered is bounded, the claim that
was not renewed for longest is forgotten first. Source: docs/spec/wire.md, "Catching up".
"""

from collections.abc import Container
from dataclasses import dataclass
from typing import Final, final

from prsm.protocol.errors import RemoteError
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import SYNC_BLOCKS_MAX

DISTRUST_MS: Final = 600_000  # a claim without a certificate behind it
# Silence or a refusal: a busy or dying peer is no liar. Doubles up to DISTRUST_MS.
PAUSE_MS: Final = 5_000
CLAIMS_MAX: Final = 1_024
SIZE_FIRST: Final = 8  # blocks asked of a peer at first; doubles while it answers in time
# A peer whose blocks take so much longer than another's is asked only while it is alone.
DRIP_FACTOR: Final = 8
DRIP_MS: Final = 100
SLOW_MS: Final = 2_500  # half of the time an answer may take


class Contradiction(RemoteError):
    """A peer said two things of itself that cannot both be true."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a peer says it stands: its last block, and the first one it still holds."""

    height: int
    tip_hash: bytes
    first_height: int


@dataclass(slots=True)
class _Claim:
    standing: Standing
    seen_ms: int
    has_shown: bool = False  # a block that its certificate holds for
    size: int = SIZE_FIRST
    block_ms: int | None = None  # what a block of its last answer took
    is_slow: bool = False  # its last answer took most of its time
    pause_ms: int = PAUSE_MS
    paused_until_ms: int = 0  # it was silent, or busy
    mute_until_ms: int = 0  # silent before it ever showed anything
    distrusted_until_ms: int = 0  # it answered, and could not show what it claims
    announced: int = 0  # height of a block it announced; gossip may overtake a STATUS

    @property
    def height(self) -> int:
        return max(self.standing.height, self.announced)

    def is_trusted(self, now_ms: int) -> bool:
        return self.distrusted_until_ms <= now_ms and self.mute_until_ms <= now_ms


@final
class Claims:
    """What peers say of their height."""

    def __init__(self) -> None:
        self._claims: dict[PeerId, _Claim] = {}

    def __len__(self) -> int:
        return len(self._claims)

    def __contains__(self, peer: object) -> bool:
        return peer in self._claims

    def hear(self, peer: PeerId, said: Standing, now_ms: int) -> None:
        """Note where a peer says it stands.

        Raises:
            Contradiction: it has said another hash of this height, or was higher before.
        """
        claim = self._claims.get(peer)
        if claim is None:
            self._claims[peer] = _Claim(said, now_ms)
            if len(self._claims) > CLAIMS_MAX:
                del self._claims[min(self._claims, key=lambda known: self._claims[known].seen_ms)]
            return
        before, claim.standing, claim.seen_ms = claim.standing, said, now_ms
        if said.height < before.height:
            # Two connections of a pair may swap two words, so this alone bans nobody.
            raise Contradiction(
                f"height {said.height} after height {before.height}", peer=peer, penalty=20
            )
        if said.height == before.height and before.tip_hash not in (b"", said.tip_hash):
            raise Contradiction(
                f"two blocks of height {said.height}: {before.tip_hash.hex()[:16]} and "
                f"{said.tip_hash.hex()[:16]}",
                peer=peer,
                penalty=100,
            )

    def announce(self, peer: PeerId, height: int) -> bool:
        """A peer says that it proposed a block which is committed; whether that was not known."""
        claim = self._claims.get(peer)
        if claim is None or height <= claim.height:
            return False
        claim.announced = height
        return True

    def meet(self, peer: PeerId) -> None:
        """A peer connected anew: it may have lost blocks, and its silence was the connection's."""
        claim = self._claims.get(peer)
        if claim is not None:
            self._claims[peer] = _Claim(
                Standing(0, b"", 0), claim.seen_ms, distrusted_until_ms=claim.distrusted_until_ms
            )

    def is_any_above(self, height: int) -> bool:
        """Has anybody claimed more, linked and trusted or not?"""
        return any(claim.height > height for claim in self._claims.values())

    def target(self, live: Container[PeerId], now_ms: int) -> int:
        """The highest height a live, trusted peer claims; 0 if nobody does."""
        return max((claim.height for _, claim in self._trusted(live, now_ms)), default=0)

    def top(self, live: Container[PeerId], *, own: int, now_ms: int) -> int:
        """The height to catch up to; our own if nobody who may be asked is ahead."""
        ahead = self._ahead(live, least=own + 1, now_ms=now_ms)
        return max((claim.height for _, claim in ahead), default=own)

    def sources(
        self, live: Container[PeerId], *, least: int, now_ms: int, is_quick: bool = False
    ) -> list[PeerId]:
        """Who may be asked for a height now, the best first; none that drips while others flow.

        Args:
            live: who is linked.
            least: the height.
            now_ms: the time.
            is_quick: only those whose last answer came in time. A line that all peers share may be
                slow: two answers at once would both come too late, again and again.
        """
        free = [
            (peer, claim)
            for peer, claim in self._ahead(live, least=least, now_ms=now_ms)
            if claim.paused_until_ms <= now_ms and claim.standing.first_height <= least
        ]
        known = [claim.block_ms for _, claim in free if claim.block_ms is not None]
        slowest = DRIP_FACTOR * min(known, default=0) + DRIP_MS
        ranks = [
            (claim.is_slow, not claim.has_shown, claim.block_ms or 0, -claim.height, peer)
            for peer, claim in free
            if claim.block_ms is None or claim.block_ms <= slowest or len(known) == 1
            if not is_quick or (claim.block_ms is not None and not claim.is_slow)
        ]
        return [peer for *_, peer in sorted(ranks)]

    def size(self, peer: PeerId) -> int:
        """How many blocks the peer is asked for at once."""
        claim = self._claims.get(peer)
        return SIZE_FIRST if claim is None else claim.size

    def height(self, peer: PeerId) -> int:
        """What the peer claims."""
        claim = self._claims.get(peer)
        return 0 if claim is None else claim.height

    def answered(self, peer: PeerId, *, blocks: int, took_ms: int) -> None:
        """It answered in time: ask for more at once, unless it took most of its time."""
        claim = self._claims.get(peer)
        if claim is not None:
            claim.is_slow = took_ms > SLOW_MS
            size = claim.size // 2 if claim.is_slow else 2 * claim.size
            claim.size = max(1, min(size, SYNC_BLOCKS_MAX))
            claim.block_ms = took_ms // max(1, blocks)

    def showed(self, peer: PeerId) -> None:
        """A certificate of a block it sent holds."""
        claim = self._claims.get(peer)
        if claim is not None:
            claim.has_shown, claim.pause_ms, claim.mute_until_ms = True, PAUSE_MS, 0

    def pause(self, peer: PeerId, now_ms: int, *, silent: bool) -> None:
        """It did not answer in time, or refused: ask for less, and later."""
        claim = self._claims.get(peer)
        if claim is not None:
            claim.paused_until_ms = now_ms + claim.pause_ms
            claim.pause_ms = min(2 * claim.pause_ms, DISTRUST_MS)
            claim.size = max(1, claim.size // 2)
            claim.is_slow |= silent
            if silent and not claim.has_shown:
                claim.mute_until_ms = now_ms + DISTRUST_MS

    def distrust(self, peer: PeerId, now_ms: int) -> None:
        """It answered, and could not show what it claims."""
        claim = self._claims.get(peer)
        if claim is not None:
            claim.distrusted_until_ms = now_ms + DISTRUST_MS

    def _ahead(
        self, live: Container[PeerId], *, least: int, now_ms: int
    ) -> list[tuple[PeerId, _Claim]]:
        """Peers that claim a height.

        Those that were silent before they ever showed a block count only while nobody else is
        there: a liar costs nobody time, and a network that was cut still heals.
        """
        trusted = self._trusted(live, now_ms)
        others = [] if trusted else self._claims.items()
        return [
            (peer, claim)
            for peer, claim in (*trusted, *others)
            if peer in live and claim.height >= least and claim.distrusted_until_ms <= now_ms
        ]

    def _trusted(self, live: Container[PeerId], now_ms: int) -> list[tuple[PeerId, _Claim]]:
        return [
            (peer, claim)
            for peer, claim in self._claims.items()
            if peer in live and claim.is_trusted(now_ms)
        ]
