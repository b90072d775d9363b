"""Handlers of sub_ and rpc_login: what a connection is told without asking again.

Knows: topics, the hub, who calls. Must not know: WebSockets, who tells the rows.
"""

import difflib
from collections.abc import Callable, Mapping

import msgspec

from prsm.node.clock import utc_text
from prsm.node.rpc.dispatch import Handler
from prsm.node.rpc.errors import BadParams, CallError, Forbidden
from prsm.node.rpc.methods import subscriptions as api
from prsm.node.rpc.spec import Caller, Line
from prsm.node.telemetry.events import Events, Wanted
from prsm.storage.errors import NotFound

# Does a caller see a row of a topic whose rows belong to somebody?
MaySee = Callable[[Caller, str, msgspec.Struct], bool]


class OnlyBySocket(CallError):
    """The call speaks of its connection, and HTTP has none that lasts."""

    reason = "only_by_socket"


def operator_only(caller: Caller, _topic: str, _row: msgspec.Struct) -> bool:
    """Rows of jobs and files are the operator's, where nobody keeps account of tenants."""
    return not caller.tenant


class EventsApi:
    """Begins and ends subscriptions.

    Args:
        events: of the node.
        may_see: asked of each row of a topic whose rows belong to somebody.
    """

    def __init__(self, events: Events, may_see: MaySee = operator_only) -> None:
        self._events = events
        self._may_see = may_see

    def handlers(self) -> dict[str, Handler]:
        """Method name -> handler."""
        return {
            "rpc_login": self.login,
            "sub_subscribe": self.subscribe,
            "sub_unsubscribe": self.unsubscribe,
        }

    async def login(self, _params: api.LoginParams, caller: Caller) -> api.LoginInfo:
        """Who the caller is; the door has taken the token already.

        Raises:
            OnlyBySocket: over HTTP, where each call carries its token.
        """
        _line(caller)
        return api.LoginInfo(
            name=caller.name,
            scopes=tuple(sorted(caller.scopes)),
            tenant=caller.tenant,
            expires=None if caller.expires_ms is None else utc_text(caller.expires_ms),
        )

    async def subscribe(self, params: api.SubscribeParams, caller: Caller) -> api.Subscribed:
        """Hear of a topic.

        Raises:
            OnlyBySocket: over HTTP.
            Forbidden: the topic asks for a scope the caller lacks.
            BadParams: a filter names no field of the rows.
            TooMany: the connection has as many as it may.
        """
        line, topic = _line(caller), api.TOPICS[params.topic]
        if topic.scope not in caller.scopes:
            raise Forbidden(f"the topic {topic.name} asks for the scope {topic.scope!r}")
        wanted = self._wanted(topic, params.filter, caller)
        name, listening = line.add(
            lambda take: self._events.listen(
                topic.name, take, wanted=wanted, resume_from=params.resume_from
            )
        )
        return api.Subscribed(subscription=name, topic=topic.name, seq=listening.seq)

    async def unsubscribe(self, params: api.UnsubscribeParams, caller: Caller) -> api.Unsubscribed:
        """Hear no more.

        Raises:
            OnlyBySocket: over HTTP.
            NotFound: this connection has none of that name.
        """
        if not _line(caller).drop(params.subscription):
            raise NotFound(f"no subscription {params.subscription[:32]!r} on this connection")
        return api.Unsubscribed(subscription=params.subscription)

    def _wanted(
        self, topic: api.Topic, asked: Mapping[str, api.FilterValue], caller: Caller
    ) -> Wanted | None:
        fields = topic.row.__struct_fields__
        for name in asked.keys() - set(fields):
            near = difflib.get_close_matches(name, fields, n=1, cutoff=0.5)
            raise BadParams(
                f"rows of {topic.name} have no field {name[:80]!r}",
                hint=f"did you mean {near[0]!r}?" if near else f"they have: {', '.join(fields)}",
                field="filter",
            )
        matches = _matcher(asked) if asked else None
        if not (topic.is_owned and caller.tenant):
            return matches

        def is_wanted(row: msgspec.Struct) -> bool:
            sees = self._may_see(caller, topic.name, row)
            return sees and (matches is None or matches(row))

        return is_wanted


def _matcher(asked: Mapping[str, api.FilterValue]) -> Wanted:
    def matches(row: msgspec.Struct) -> bool:
        for name, value in asked.items():
            found: object = getattr(row, name)
            if isinstance(value, tuple):
                if found not in value:
                    return False
            elif found != value or isinstance(found, bool) is not isinstance(value, bool):
                return False
        return True

    return matches


def _line(caller: Caller) -> Line:
    if caller.line is None:
        raise OnlyBySocket("this call speaks of its connection", hint="connect to ws://HOST/ws")
    return caller.line
