"""rpc_login and sub_: what a WebSocket is told without asking again, and the rows it is told."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Final, Literal

import msgspec

from prsm.node.rpc.methods.tasks import TaskInfo
from prsm.node.rpc.methods.work import Job
from prsm.node.rpc.spec import Count, Hex32, Method, Params, Result, Scope

# Of one WebSocket.
SUBSCRIPTIONS_MAX: Final = 16
CALLS_MAX: Final = 32  # in flight; the next frame is read when one is answered
MESSAGE_BYTES_MAX: Final = 1024 * 1024
_TEXT_MAX: Final = 256

TopicName = Literal[
    "heads",
    "rounds",
    "votes",
    "peers",
    "jobs",
    "tokens",
    "transfers",
    "models",
    "logs",
    "metrics",
    "alerts",
]


class HeadRow(Result, frozen=True):
    """A block that is durable here."""

    height: Count
    hash: Hex32
    time: str
    proposer: Count  # index in the set of its epoch
    view: Count
    transactions: Count
    state_root: Hex32


class RoundRow(Result, frozen=True):
    """A step of the agreement on a block, as this node takes it."""

    height: Count
    view: Count
    proposer: Count
    phase: Literal["proposal", "prepared", "committed", "view_change"]
    at_ms: Count  # wall clock of this node


class VoteRow(Result, frozen=True):
    """A signed vote that this node heard or sent."""

    height: Count
    view: Count
    kind: Literal["proposal", "prepare", "commit", "view_change"]
    validator: Count  # index in the set of its epoch
    at_ms: Count  # wall clock of this node


class PeerRow(Result, frozen=True):
    """A link that came or went, or a peer heard of for the first time."""

    peer: str
    event: Literal["linked", "lost", "banned", "discovered"]
    address: str
    direction: Literal["in", "out", ""]
    why: str = ""


class TokenRow(Result, frozen=True):
    """Text of a generation as it is made; `job_id` is its generation_id."""

    job_id: Hex32
    tokens: Count  # chosen so far
    text: str
    is_over: bool
    finish: Literal["stop", "length", "context", "failed"] | None


class ModelRow(Result, frozen=True):
    """A model that is whole here since now, or no more."""

    name: str
    cid: str
    event: Literal["held", "gone"]


class LogRow(Result, frozen=True):
    """A line of the node's log."""

    ts: str
    level: str
    room: str
    event: str
    fields: dict[str, object]


class MetricRow(Result, frozen=True):
    """How the node is, each second."""

    loop_lag_ms: float
    rss_bytes: Count
    peers: Count
    height: Count
    view: Count
    mempool: Count
    jobs_running: Count
    rpc_in_flight: Count


class AlertRow(Result, frozen=True):
    """A rule of this node that holds since now, or no more."""

    name: str
    severity: str
    state: Literal["firing", "over"]
    since: str
    text: str


@dataclass(frozen=True, slots=True)
class Topic:
    """One thing to hear of.

    Attributes:
        name: of the topic.
        row: what `result` of its notifications is.
        scope: what the listener must hold.
        is_owned: rows belong to somebody: callers of a tenant hear of their own only.
    """

    name: TopicName
    row: type[msgspec.Struct]
    scope: Scope = Scope.READ
    is_owned: bool = False


TOPICS: Final[Mapping[str, Topic]] = MappingProxyType(
    {
        topic.name: topic
        for topic in (
            Topic("heads", HeadRow),
            Topic("rounds", RoundRow),
            Topic("votes", VoteRow),
            Topic("peers", PeerRow),
            Topic("jobs", Job, is_owned=True),
            Topic("tokens", TokenRow, is_owned=True),
            Topic("transfers", TaskInfo, is_owned=True),
            Topic("models", ModelRow, is_owned=True),
            Topic("logs", LogRow, Scope.ADMIN, is_owned=True),
            Topic("metrics", MetricRow),
            Topic("alerts", AlertRow),
        )
    }
)

_Word = Annotated[str, msgspec.Meta(max_length=_TEXT_MAX)]
_Words = Annotated[tuple[_Word, ...], msgspec.Meta(max_length=64)]
FilterValue = bool | int | _Word | _Words


class SubscribeParams(Params, frozen=True):
    """What to hear of.

    `filter`: a field of the rows and the value it must have, or a list of such texts.
    `resume_from`: `seq` of the last row the caller has; the later ones that are kept come first.
    """

    topic: TopicName
    filter: Annotated[dict[_Word, FilterValue], msgspec.Meta(max_length=8)] = msgspec.field(
        default_factory=dict
    )
    resume_from: Count | None = None


class Subscribed(Result, frozen=True):
    """The name its notifications carry, and the number of the topic's last row."""

    subscription: str
    topic: str
    seq: Count


class UnsubscribeParams(Params, frozen=True):
    """Which subscription of this connection."""

    subscription: _Word


class Unsubscribed(Result, frozen=True):
    """It is told nothing more."""

    subscription: str


class LoginParams(Params, frozen=True):
    """The token that an Authorization header would carry."""

    token: Annotated[str, msgspec.Meta(min_length=1, max_length=8192)]


class LoginInfo(Result, frozen=True):
    """Who the caller is from now on; `expires` null: the token has no end."""

    name: str
    scopes: tuple[str, ...]
    tenant: str
    expires: str | None


METHODS: Final = (
    Method(
        "rpc_login",
        LoginParams,
        LoginInfo,
        Scope.READ,
        "Say who calls: the first call of a WebSocket that sent no Authorization header.",
        example=LoginParams("0" * 64),
    ),
    Method(
        "sub_subscribe",
        SubscribeParams,
        Subscribed,
        Scope.READ,
        "Hear of a topic on this WebSocket, from now on or from a row that is past.",
        example=SubscribeParams("heads"),
    ),
    Method(
        "sub_unsubscribe",
        UnsubscribeParams,
        Unsubscribed,
        Scope.READ,
        "Hear no more of it.",
        example=UnsubscribeParams("1"),
    ),
)
