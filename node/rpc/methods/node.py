"""rpc_ node_ net_ storage_: the node itself and its peers."""

from typing import Annotated, Final, Literal

import msgspec

from prsm.node.rpc.pages import Page, PageParams
from prsm.node.rpc.spec import (
    ChainIdText,
    Count,
    Hex32,
    Method,
    NoParams,
    Params,
    PeerIdText,
    Result,
    Scope,
)
from prsm.protocol.limits import ADDRESS_TEXT_MAX

_AddressText = Annotated[
    str,
    msgspec.Meta(min_length=1, max_length=ADDRESS_TEXT_MAX, description="/ip4/…/tcp/…/p2p/…"),
]


class Limits(Result, frozen=True):
    """Bounds of this door; a call beyond one gets -32008 or -32005."""

    body_bytes: Count
    batch_calls: Count
    batch_answer_bytes: Count
    connections: Count
    socket_message_bytes: Count = 0  # these three of one WebSocket; 0: an older node has none
    socket_calls: Count = 0
    socket_subscriptions: Count = 0


class RpcInfo(Result, frozen=True):
    """What a client checks before it goes on."""

    version: str
    min_client: str
    protocol_version: Count
    chain_id: ChainIdText
    network: str
    methods: Count
    limits: Limits


class ErrorInfo(Result, frozen=True):
    """One row of the error registry."""

    reason: str
    code: int
    prsm_code: str
    exit_code: Count
    retryable: bool
    title: str
    why: str
    fix: str


class Errors(Result, frozen=True):
    """The whole error registry."""

    items: tuple[ErrorInfo, ...]


class Pong(Result, frozen=True):
    """The node's wall time, RFC 3339."""

    time: str


class Part(Result, frozen=True):
    """One supervised part of the daemon."""

    name: str
    state: Literal["starting", "running", "restarting", "failed", "stopped"]
    restarts: Count
    why: str = ""


class NodeStatus(Result, frozen=True):
    """Everything `prsm status` shows."""

    name: str
    version: str
    profile: str
    state: Literal["starting", "syncing", "ready", "stopping"]
    home: str
    pid: Count
    started: str
    uptime_ms: Count
    network: str
    chain_id: ChainIdText
    development: bool
    peer_id: PeerIdText
    addresses: tuple[str, ...]
    rpc: str
    peers: Count
    height: Count
    head_hash: Hex32
    state_root: Hex32
    head_time: str | None
    validator: bool
    wallet: Hex32 | None
    wallet_unlocked: bool
    jobs_running: Count
    models: Count
    offline: bool  # blocks are asked of nobody
    stale: bool  # the network may know more than this ledger: offline, alone or behind
    rss_bytes: Count
    parts: tuple[Part, ...]


class FiringAlert(Result, frozen=True):
    """A rule of this node that calls for a person; its page says what to do."""

    name: str
    severity: Literal["info", "warning", "critical"]
    since: str
    text: str
    runbook: str


class Health(Result, frozen=True):
    """Whether the node is ready; `why` says why it is not; and what calls for a person."""

    ready: bool
    why: str
    state: Literal["starting", "syncing", "ready", "stopping"]
    height: Count
    peers: Count
    alerts: tuple[FiringAlert, ...] = ()


class Stopping(Result, frozen=True):
    """The process that is about to end."""

    pid: Count


class Peer(Result, frozen=True):
    """A live peer as we see it."""

    peer_id: PeerIdText
    address: str
    direction: Literal["in", "out"]
    relayed: bool
    since: str
    rtt_ms: Count | None
    agent: str
    schema: Count = 1  # of the messages both speak; nodes of the first do not say it


class BannedPeer(Result, frozen=True):
    """A peer that is neither dialled nor let in for a while."""

    peer_id: PeerIdText
    until: str
    why: str


class Peers(Page, frozen=True):
    """All live peers, and those that are banned, in order of their ids."""

    items: tuple[Peer, ...]
    banned: tuple[BannedPeer, ...]


class ConnectParams(Params, frozen=True):
    """Whom to dial."""

    address: _AddressText


class Connected(Result, frozen=True):
    """Who answered there."""

    peer_id: PeerIdText


METHODS: Final = (
    Method(
        "rpc_discover",
        NoParams,
        dict[str, object],
        Scope.READ,
        "All methods, as OpenRPC.",
        path="/openrpc.json",
    ),
    Method(
        "rpc_getInfo",
        NoParams,
        RpcInfo,
        Scope.READ,
        "Versions, network and limits.",
        path="/info",
    ),
    Method("rpc_listErrors", NoParams, Errors, Scope.READ, "Every error this node can answer."),
    Method("rpc_ping", NoParams, Pong, Scope.READ, "The node's time; costs nothing."),
    Method(
        "node_getStatus",
        NoParams,
        NodeStatus,
        Scope.READ,
        "How the node is.",
        path="/status",
    ),
    Method(
        "node_getHealth",
        NoParams,
        Health,
        Scope.READ,
        "Whether the node is ready and why not, and its alerts that fire.",
        path="/health",
    ),
    Method("node_stop", NoParams, Stopping, Scope.ADMIN, "End the node gracefully."),
    Method(
        "net_getPeers",
        PageParams,
        Peers,
        Scope.READ,
        "Live peers, and banned ones.",
        words=("net", "peers"),
        page_by="peer_id",
        path="/net_info",
    ),
    Method(
        "net_connect",
        ConnectParams,
        Connected,
        Scope.WRITE,
        "Dial a peer and keep the connection.",
        words=("net", "connect"),
        positional=("address",),
        deadline_ms=20_000,
        example=ConnectParams("/ip4/127.0.0.1/tcp/4410"),
    ),
)
