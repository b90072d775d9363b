"""Who else is let in beside the operator, joined: tokens, codes of the dashboard, their methods.

Knows: the parts by their constructors. Must not know: what a token may do, HTTP.
"""

from collections.abc import Callable
from dataclasses import dataclass

from prsm.node.api.logins import Logins
from prsm.node.api.tokens import TokensApi
from prsm.node.callers.living import while_live
from prsm.node.callers.tokens import Tokens
from prsm.node.clock import Clock
from prsm.node.config.login import LoginConfig
from prsm.node.home import Home
from prsm.node.rpc.dispatch import Handler, Layer
from prsm.node.rpc.target import read_token
from prsm.node.telemetry import logs
from prsm.node.web.app import Pages
from prsm.node.web.device import DeviceLogins, device_routes
from prsm.node.web.device_provider import HttpProvider
from prsm.node.web.login import login_route


@dataclass(frozen=True, slots=True)
class Guests:
    """The tokens of a node, and how they are made and bought.

    Attributes:
        tokens: whose holders the gate admits.
        pages: the routes where nobody has a token yet.
        handlers: method name -> handler.
    """

    tokens: Tokens
    pages: Pages
    handlers: dict[str, Handler]

    def layers(self, *waits: Layer) -> tuple[Layer, ...]:
        """What refuses calls behind the end of their token, around layers in which they wait."""
        return while_live(self.tokens, *waits)


def open_guests(
    home: Home,
    clock: Clock,
    base_url: Callable[[], str],
    *,
    is_on: bool = True,
    login: LoginConfig | None = None,
) -> Guests:
    """Read the files of a home.

    Args:
        home: its folders exist.
        clock: decides what has ended.
        base_url: where a browser finds the node; asked when somebody wants to know.
        is_on: whether the door lets tokens in: `rpc.jwt`.
        login: who may log in at a provider of identities.

    Raises:
        TokensDamaged: a file is there and cannot be read.
        BadCredentials: the secret of `[login]` cannot be read.
    """
    tokens = Tokens.open(home.token_key, home.tokens, clock)
    logins = Logins(tokens, clock)
    handlers = TokensApi(tokens, logins, clock, base_url, is_on=is_on).handlers()
    people = _people(home, login or LoginConfig(), tokens, clock) if is_on else None
    return Guests(
        tokens,
        lambda gate: [login_route(gate, logins), *device_routes(gate, people)],
        handlers,
    )


def _people(home: Home, login: LoginConfig, tokens: Tokens, clock: Clock) -> DeviceLogins | None:
    """Logins at the provider of identities; None where there is none."""
    if not login.issuer:
        return None
    named = home.root / login.client_secret_file if login.client_secret_file else None
    secret = read_token(named) if named is not None else ""
    logs.secrets.guard(secret.encode())
    return DeviceLogins(HttpProvider(login, secret), tokens, clock, login)
