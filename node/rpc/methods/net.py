"""net_: who is kept out."""

from typing import Annotated, Final

import msgspec

from prsm.node.rpc.pages import Page, PageParams
from prsm.node.rpc.spec import (
    Count,
    Method,
    NoParams,
    Params,
    PeerIdText,
    Result,
    Scope,
    ShortText,
)

DAY_SECONDS: Final = 24 * 3600
BAN_SECONDS_MAX: Final = 10 * 365 * DAY_SECONDS


class Ban(Result, frozen=True):
    """A peer that is neither dialled nor let in until then; `times` counts those it earned."""

    peer_id: PeerIdText
    until: str
    why: str
    times: Count
    by_operator: bool


class Bans(Page, frozen=True):
    """The bans that run now, in order of their peers' ids."""

    items: tuple[Ban, ...]


class BanParams(Params, frozen=True):
    """Whom to keep out, how long, and a word for the list."""

    peer_id: PeerIdText
    seconds: Annotated[int, msgspec.Meta(ge=1, le=BAN_SECONDS_MAX)] = DAY_SECONDS
    why: ShortText = "the operator said so"


class UnbanParams(Params, frozen=True):
    """Whom to let in again."""

    peer_id: PeerIdText


class Unbanned(Result, frozen=True):
    """Whether anything was known against the peer."""

    peer_id: PeerIdText
    was_known: bool


class Load(Result, frozen=True):
    """What the peer-to-peer side holds now, and what it turned away since the start.

    `counts`: sockets of others, handshakes, connections, streams; `refused_…` by reason.
    """

    peers_in: Count
    peers_out: Count
    tasks: Count
    held_bytes: Count  # kept for peers: not read by us, or not yet by them
    rss_bytes: Count
    memory_bytes: Count  # bound of rss_bytes: net.memory
    dropped: Count  # peers that held most when the bound was passed
    bans: Count
    restarts: Count
    counts: dict[str, Count]


_PEER: Final = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp"

METHODS: Final = (
    Method(
        "net_getLoad",
        NoParams,
        Load,
        Scope.READ,
        "What the network side holds, and what it turned away.",
        words=("net", "load"),
    ),
    Method(
        "net_getBans",
        PageParams,
        Bans,
        Scope.READ,
        "Peers that are kept out, until when and why.",
        words=("net", "bans"),
        page_by="peer_id",
    ),
    Method(
        "net_ban",
        BanParams,
        Ban,
        Scope.ADMIN,
        "Keep a peer out for a while; its connection is closed.",
        words=("net", "ban"),
        positional=("peer_id",),
        example=BanParams(_PEER),
    ),
    Method(
        "net_unban",
        UnbanParams,
        Unbanned,
        Scope.ADMIN,
        "Let a peer in again and forget its faults.",
        words=("net", "unban"),
        positional=("peer_id",),
        example=UnbanParams(_PEER),
    ),
)
