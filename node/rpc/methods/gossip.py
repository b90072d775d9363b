"""net_: what nodes announce to one another, and how much of it arrives."""

from typing import Annotated, Final, Literal

import msgspec

from prsm.node.rpc.spec import (
    Count,
    HexBytes,
    Method,
    NoParams,
    Params,
    PeerIdText,
    Result,
    Scope,
)

LISTED_MAX: Final = 1_024
AUTHORS_LISTED_MAX: Final = 256  # of a topic, who was heard of last


class AuthorDelivery(Result, frozen=True):
    """What arrived of one node's records on one topic.

    `repaired` were pulled from other peers; `late` came over a second after they were made;
    `missing` never came, as later sequence numbers show.
    """

    peer_id: PeerIdText
    seen: Count
    repaired: Count
    late: Count
    missing: Count


class TopicDelivery(Result, frozen=True):
    """What became of the records of one topic since the node started.

    `held` count now; `pushed_out` had to go for others. Of what did not count: `stale` was no news,
    `expired` over, `early` ahead of our clock, `crowded` had no room, `unchecked` came from a peer
    beyond its share of signatures, `refused` was malformed or forged. Delays are by the authors'
    clocks.
    """

    topic: str
    published: Count
    held: Count
    pushed_out: Count
    seen: Count
    repaired: Count
    late: Count
    missing: Count
    stale: Count
    expired: Count
    early: Count
    crowded: Count
    unchecked: Count
    refused: Count
    p50_ms: Count | None
    p99_ms: Count | None
    authors: tuple[AuthorDelivery, ...]


class Delivery(Result, frozen=True):
    """All topics, and how many records are known to be missing right now."""

    items: tuple[TopicDelivery, ...]
    wanted: Count


class AnnouncementsParams(Params, frozen=True):
    """Which announcements."""

    topic: Annotated[
        Literal["capacity", "models", "status", "blocks", "storage"] | None,
        msgspec.Meta(description="only of this topic"),
    ] = None
    peer_id: Annotated[PeerIdText | None, msgspec.Meta(description="only of this node")] = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=LISTED_MAX, description="how many at most")] = 256


class AnnouncementInfo(Result, frozen=True):
    """One announcement that counts now; `content` is its body with bytes as hex."""

    topic: str
    peer_id: PeerIdText
    key: HexBytes
    made: str
    expires: str
    content: dict[str, object]


class Announcements(Result, frozen=True):
    """Announcements by topic and author; `more` if the limit left some out."""

    items: tuple[AnnouncementInfo, ...]
    more: bool


METHODS: Final = (
    Method(
        "net_getDelivery",
        NoParams,
        Delivery,
        Scope.READ,
        "How much of what nodes announce arrives, is repaired or missing.",
        words=("net", "delivery"),
    ),
    Method(
        "net_getAnnouncements",
        AnnouncementsParams,
        Announcements,
        Scope.READ,
        "What nodes announce: capacity, models, where they stand.",
        words=("net", "announcements"),
        example=AnnouncementsParams(topic="status"),
    ),
)
