"""[login]: who may buy a token by logging in at a provider of identities (OpenID, OAuth 2.0).

Knows: keys, bounds, the form of a user's line. Must not know: HTTP, tokens.
"""

import re
from typing import Annotated, Final
from urllib.parse import urlsplit

import msgspec

from prsm.node.config.section import ConfigError, Section, doc

_Text = Annotated[str, msgspec.Meta(max_length=512)]
_USER: Final = re.compile(
    r"(?P<who>[^\s=]{1,256})=(?P<role>admin|operator|user|observer)(@(?P<tenant>[A-Za-z0-9._-]{1,64}))?"
)


class LoginConfig(Section, frozen=True):
    """[login]: tokens for people a provider of identities vouches for; nobody if empty."""

    issuer: Annotated[
        _Text, doc("URL of the provider, such as https://login.example; empty: nobody is asked")
    ] = ""
    client_id: Annotated[_Text, doc("how the provider knows this node")] = ""
    client_secret_file: Annotated[
        str,
        msgspec.Meta(max_length=4096),
        doc("file (0600) with the secret; empty: a public client"),
    ] = ""
    scope: Annotated[_Text, doc("what the provider is asked for")] = "openid email"
    claim: Annotated[
        Annotated[str, msgspec.Meta(pattern=r"^[a-z_]{1,32}$")],
        doc("which claim names the person; danger: one that people may choose themselves"),
    ] = "sub"
    users: Annotated[
        tuple[_Text, ...],
        msgspec.Meta(max_length=256),
        doc("who may do what: NAME=role or NAME=role@tenant"),
    ] = ()
    ttl_s: Annotated[
        int, msgspec.Meta(ge=60, le=30 * 86_400), doc("seconds a token bought so lasts")
    ] = 12 * 3600


def read_user(line: str) -> tuple[str, str, str]:
    """Who, role and tenant of a line of `login.users`.

    Raises:
        ConfigError: another form.
    """
    found = _USER.fullmatch(line)
    if found is None:
        raise ConfigError(
            f"login.users has {line[:80]!r}", hint='write "alice@lab.example=user@tenant"'
        )
    return found["who"], found["role"], found["tenant"] or ""


def is_safe_url(url: str) -> bool:
    """Whether secrets may be sent there: TLS, or a program of this machine."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    is_here = parts.hostname in {"127.0.0.1", "::1", "localhost"}
    return bool(parts.hostname) and (
        parts.scheme == "https" or (parts.scheme == "http" and is_here)
    )


def validate_login(login: LoginConfig) -> None:
    """Refuse keys that would let the wrong people in, or nobody.

    Raises:
        ConfigError: names the key and what to write.
    """
    names = [read_user(line)[0] for line in login.users]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ConfigError(f"login.users has {twice[0]!r} twice", hint="give each person one line")
    if not login.issuer:
        return
    if not is_safe_url(login.issuer):
        raise ConfigError(
            f"login.issuer is {login.issuer!r}: secrets would travel in clear text",
            hint="write it as https://login.example",
        )
    if not login.client_id or not login.users:
        raise ConfigError(
            "login.issuer is set, and login.client_id or login.users is empty",
            hint='set login.client_id, and login.users = ["alice@lab.example=user"]',
        )
