"""Logging in without a token: a provider of identities says who it is, a list says what they may.

A program asks here for a code, its person agrees at the provider's page, and the program comes
back for a token of ours. What the provider gives never leaves this room.

Invariants: at most 64 logins wait; each is asked for no oftener than the provider allows; an id
that was answered with a token, or refused, is worth nothing afterwards.

Knows: the flow (RFC 8628), the list of people. Must not know: HTTP of the provider, methods.
"""

import enum
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec
from starlette.routing import Route

from prsm.node.callers.tokens import ROLES, Token, Tokens, TooManyTokens
from prsm.node.clock import Clock, utc_text
from prsm.node.config.login import LoginConfig, read_user
from prsm.node.rpc.errors import CallError, NotReady, TooMany
from prsm.node.web.auth import Gate
from prsm.node.web.posted import PostedPage, read_posted

LOGINS_MAX: Final = 64
_EXPIRES_S_MAX: Final = 1_800
_ID_CHARS_MAX: Final = 64


class ProviderDown(CallError):
    """The provider does not answer, or not as its specification says."""

    reason = "provider_unreachable"


class Waiting(enum.Enum):
    """What a provider says of a login."""

    PENDING = "pending"
    SLOWER = "slower"  # and ask five seconds later than so far
    OVER = "over"


@dataclass(frozen=True, slots=True)
class Begun:
    """A login as the provider begins it; `device_code` is between the node and it."""

    device_code: str
    user_code: str
    url: str
    url_complete: str
    expires_s: int
    interval_s: int


@dataclass(frozen=True, slots=True)
class Poll:
    """How a login is; `who` is empty unless the person agreed."""

    state: Waiting
    who: str = ""


class Provider(Protocol):
    """Who vouches for people."""

    async def begin(self) -> Begun:
        """Ask for a code.

        Raises:
            ProviderDown: it does not answer.
        """
        ...

    async def poll(self, device_code: str) -> Poll:
        """Whether the person agreed.

        Raises:
            ProviderDown: it does not answer.
        """
        ...


class DeviceAnswer(msgspec.Struct, frozen=True):
    """What a program shows its person: open `url`, type `user_code`."""

    id: str
    user_code: str
    url: str
    url_complete: str
    interval_s: int
    expires: str


class PollAnswer(msgspec.Struct, frozen=True):
    """`state` is pending or done; `token` with the latter. Ask again after `interval_s`."""

    state: str
    interval_s: int
    name: str = ""
    token: str = ""
    expires: str | None = None
    scopes: tuple[str, ...] = ()


class _PollAsk(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: str


@dataclass(slots=True)
class _Login:
    begun: Begun
    ends_ms: int
    interval_s: int
    next_ms: int
    is_asking: bool = False


class DeviceLogins:
    """Logins that wait for their person.

    Args:
        provider: who vouches.
        tokens: where the bought tokens live.
        clock: tells when a login ends.
        login: who may do what, and how long.
    """

    def __init__(
        self, provider: Provider, tokens: Tokens, clock: Clock, login: LoginConfig
    ) -> None:
        self._provider = provider
        self._tokens = tokens
        self._clock = clock
        self._ttl_ms = login.ttl_s * 1000
        lines = (read_user(line) for line in login.users)
        self._users: Mapping[str, tuple[str, str]] = {who: rest for who, *rest in lines}  # type: ignore[misc]  # pairs
        self._logins: dict[str, _Login] = {}
        self._beginning = 0

    async def begin(self) -> DeviceAnswer:
        """Begin a login.

        Raises:
            TooMany: 64 wait already.
            ProviderDown: the provider does not answer.
        """
        now = self._clock.wall_ms()
        self._logins = {key: one for key, one in self._logins.items() if one.ends_ms > now}
        if len(self._logins) + self._beginning >= LOGINS_MAX:
            raise TooMany(f"{LOGINS_MAX} logins wait, at most {LOGINS_MAX}", retry_after_ms=60_000)
        self._beginning += 1  # a place from here on: others come while the provider is asked
        try:
            begun = await self._provider.begin()
        finally:
            self._beginning -= 1
        now = self._clock.wall_ms()  # others may have been asked for before
        ends = now + min(begun.expires_s, _EXPIRES_S_MAX) * 1000
        key = secrets.token_urlsafe(24)
        self._logins[key] = _Login(begun, ends, begun.interval_s, now + begun.interval_s * 1000)
        return DeviceAnswer(
            id=key,
            user_code=begun.user_code,
            url=begun.url,
            url_complete=begun.url_complete,
            interval_s=begun.interval_s,
            expires=utc_text(ends),
        )

    async def poll(self, key: str) -> PollAnswer | None:
        """How a login is; None if it is unknown, over, or its person may do nothing here.

        Raises:
            ProviderDown: the provider does not answer; the login goes on.
            TooManyTokens: no place is left.
        """
        login = self._logins.get(key)
        now = self._clock.wall_ms()
        if login is None or login.ends_ms <= now:
            self._logins.pop(key, None)
            return None
        if login.is_asking or now < login.next_ms:
            return PollAnswer("pending", login.interval_s)
        login.is_asking = True
        try:
            found = await self._provider.poll(login.begun.device_code)
            login.interval_s += 5 if found.state is Waiting.SLOWER else 0
        finally:
            login.is_asking = False
            login.next_ms = self._clock.wall_ms() + login.interval_s * 1000
        if found.state is not Waiting.OVER:
            return PollAnswer("pending", login.interval_s)
        self._logins.pop(key, None)
        return await self._grant(found.who)

    async def _grant(self, who: str) -> PollAnswer | None:
        if who not in self._users:
            return None
        role, tenant = self._users[who]
        token = Token(
            id="",
            name=f"login {who}"[:64],
            scopes=ROLES[role],
            created_ms=0,
            role=role,
            tenant=tenant,
            expires_ms=self._clock.wall_ms() + self._ttl_ms,
        )
        made, text = await self._tokens.add(token)
        expires = None if made.expires_ms is None else utc_text(made.expires_ms)
        return PollAnswer("done", 0, made.name, text, expires, made.scopes)


class DevicePages:
    """POST /login/device and /login/device/poll."""

    def __init__(self, gate: Gate, logins: DeviceLogins | None) -> None:
        self._gate = gate
        self._found = logins

    async def begin(self, _body: bytes) -> DeviceAnswer:
        """Begin a login.

        Raises:
            NotReady, TooMany, ProviderDown: no login begins here, or now.
        """
        return await self._logins().begin()

    async def poll(self, body: bytes) -> PollAnswer:
        """How the login that is named is.

        Raises:
            BadParams: none is named.
            Unauthorised: it is over, without a token.
            NotReady, TooMany, ProviderDown: as `begin`.
        """
        logins = self._logins()
        ask = read_posted(body, _PollAsk, field="id")
        try:
            found = await logins.poll(ask.id[:_ID_CHARS_MAX])
        except TooManyTokens as error:
            raise TooMany(error.what, hint=error.hint) from error
        if found is None:
            await self._gate.refuse(
                "the login is over: refused, too late, or nobody this node knows",
                hint="prsm token login",
            )
        return found

    def _logins(self) -> DeviceLogins:
        if self._found is None:
            raise NotReady(
                "login.issuer is empty: nobody vouches for people",
                hint="set login.issuer, login.client_id and login.users in config.toml",
            )
        return self._found


def device_routes(gate: Gate, logins: DeviceLogins | None) -> Sequence[Route]:
    """The pages of the flow, for `prsm.node.guests`."""
    pages = DevicePages(gate, logins)
    return (
        Route("/login/device", endpoint=PostedPage(pages.begin)),
        Route("/login/device/poll", endpoint=PostedPage(pages.poll)),
    )
