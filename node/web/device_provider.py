"""A provider of identities over HTTP: OAuth 2.0 device flow, and who it was that agreed.

Blocking calls in a few threads of their own, without redirects, each bounded in size, and in time
between two pieces: a provider that drips is not cut off. The person is read from the provider's own
page of users, over the connection that TLS vouches for: no token of the provider is ever judged
here. Source: RFC 8628; OpenID Connect Discovery 1.0; OIDC Core, 5.3.

Knows: HTTP, the forms of the provider. Must not know: tokens of ours, who may do what.
"""

import functools
import http.client
import ssl
from collections.abc import Mapping
from typing import Final, TypeVar
from urllib.parse import urlencode, urlsplit

import msgspec
import trio

from prsm.node.config.login import LoginConfig, is_safe_url
from prsm.node.web.device import Begun, Poll, ProviderDown, Waiting
from prsm.protocol.jsontext import UNREADABLE

_TIMEOUT_S: Final = 10.0
_ANSWER_BYTES_MAX: Final = 256 * 1024
ASKS_MAX: Final = 8  # at once; in the threads of others the node writes its files
_GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"
_FORM: Final = "application/x-www-form-urlencoded"
T = TypeVar("T")


class _Places(msgspec.Struct, frozen=True):
    issuer: str
    device_authorization_endpoint: str
    token_endpoint: str
    userinfo_endpoint: str


class _DeviceAnswer(msgspec.Struct, frozen=True):
    device_code: str
    user_code: str
    verification_uri: str
    expires_in: int
    verification_uri_complete: str = ""
    interval: int = 5


class _TokenAnswer(msgspec.Struct, frozen=True):
    access_token: str = ""
    error: str = ""


class HttpProvider:
    """The provider of `[login]`; asked only when somebody logs in.

    Args:
        login: its keys.
        secret: of the client; empty for a public one.
    """

    def __init__(self, login: LoginConfig, secret: str) -> None:
        self._login = login
        self._secret = secret
        self._places: _Places | None = None
        self._limiter = trio.CapacityLimiter(ASKS_MAX)

    async def begin(self) -> Begun:
        """Ask for a code.

        Raises:
            ProviderDown: it does not answer, or not in that form.
        """
        places = await self._where()
        asked = {"client_id": self._login.client_id, "scope": self._login.scope}
        raw = await self._post(places.device_authorization_endpoint, asked)
        found = _read(raw, _DeviceAnswer)
        return Begun(
            device_code=found.device_code,
            user_code=found.user_code,
            url=found.verification_uri,
            url_complete=found.verification_uri_complete,
            expires_s=found.expires_in,
            interval_s=max(1, found.interval),
        )

    async def poll(self, device_code: str) -> Poll:
        """Whether the person agreed, and who it is.

        Raises:
            ProviderDown: it does not answer, or not in that form.
        """
        places = await self._where()
        asked = {
            "grant_type": _GRANT,
            "device_code": device_code,
            "client_id": self._login.client_id,
        }
        found = _read(await self._post(places.token_endpoint, asked), _TokenAnswer)
        match found.error:
            case "authorization_pending":
                return Poll(Waiting.PENDING)
            case "slow_down":
                return Poll(Waiting.SLOWER)
            case "":
                return Poll(Waiting.OVER, await self._who(places, found.access_token))
            case _:
                return Poll(Waiting.OVER)

    async def _where(self) -> _Places:
        if self._places is None:
            url = self._login.issuer.rstrip("/") + "/.well-known/openid-configuration"
            places = _read(await self._get(url, {}), _Places)
            if places.issuer.rstrip("/") != self._login.issuer.rstrip("/"):
                raise ProviderDown(f"{self._login.issuer} says it is {places.issuer[:80]!r}")
            for place in (
                places.device_authorization_endpoint,
                places.token_endpoint,
                places.userinfo_endpoint,
            ):
                if not is_safe_url(place):
                    raise ProviderDown(f"{self._login.issuer} names {place[:80]!r}, without TLS")
            self._places = places
        return self._places

    async def _who(self, places: _Places, token: str) -> str:
        raw = await self._get(places.userinfo_endpoint, {"Authorization": f"Bearer {token}"})
        claims = _read(raw, dict[str, object])
        if self._login.claim == "email" and claims.get("email_verified") is not True:
            return ""  # an address that anybody may write into a form
        return str(claims.get(self._login.claim, ""))

    async def _get(self, url: str, headers: Mapping[str, str]) -> bytes:
        return await self._in_thread(functools.partial(_ask, "GET", url, b"", headers))

    async def _post(self, url: str, form: Mapping[str, str]) -> bytes:
        fields = {**form, **({"client_secret": self._secret} if self._secret else {})}
        headers = {"Content-Type": _FORM}
        return await self._in_thread(
            functools.partial(_ask, "POST", url, urlencode(fields).encode(), headers)
        )

    async def _in_thread(self, ask: "functools.partial[bytes]") -> bytes:
        return await trio.to_thread.run_sync(ask, abandon_on_cancel=True, limiter=self._limiter)


def _ask(verb: str, url: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    parts = urlsplit(url)
    host, path = parts.netloc, parts.path or "/"
    link: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context()
        link = http.client.HTTPSConnection(host, timeout=_TIMEOUT_S, context=context)
    else:
        link = http.client.HTTPConnection(host, timeout=_TIMEOUT_S)
    target = f"{path}?{parts.query}" if parts.query else path
    try:
        shown = {"Accept": "application/json", **headers}
        link.request(verb, target, body=body or None, headers=shown)
        with link.getresponse() as answer:
            raw = answer.read(_ANSWER_BYTES_MAX + 1)
    except (OSError, http.client.HTTPException) as error:
        raise ProviderDown(f"{host} does not answer: {type(error).__name__}") from error
    finally:
        link.close()
    # 400 carries the reasons of RFC 8628, 3.5; a redirect is never followed.
    if answer.status not in {200, 400, 401, 403} or len(raw) > _ANSWER_BYTES_MAX:
        raise ProviderDown(f"{host} answered {answer.status} with {len(raw)} bytes")
    return raw


def _read(raw: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(raw, type=kind)
    except UNREADABLE as error:
        raise ProviderDown(f"the provider's answer has another form: {error}") from error
