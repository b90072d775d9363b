"""Who else is let in beside the operator, joined: tokens, codes of the dashboard, their methods.

Knows: the parts by their constructors. Must not know: what a token may do, HTTP.
"""

from collections.abc import Callable
from dataclasses import dataclass

from prsm.node.api.logins import Logins
from prsm.node.api.tokens import TokensApi
from prsm.node.clock import Clock
from prsm.node.home import Home
from prsm.node.rpc.dispatch import Handler
from prsm.node.tokens import Tokens
from prsm.node.web.app import Pages
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


def open_guests(
    home: Home, clock: Clock, base_url: Callable[[], str], *, is_on: bool = True
) -> Guests:
    """Read the files of a home.

    Args:
        home: its folders exist.
        clock: decides what has ended.
        base_url: where a browser finds the node; asked when somebody wants to know.
        is_on: whether the door lets tokens in: `rpc.jwt`.

    Raises:
        TokensDamaged: a file is there and cannot be read.
    """
    tokens = Tokens.open(home.token_key, home.tokens, clock)
    logins = Logins(tokens, clock)
    handlers = TokensApi(tokens, logins, clock, base_url, is_on=is_on).handlers()
    return Guests(tokens, lambda gate: [login_route(gate, logins)], handlers)
