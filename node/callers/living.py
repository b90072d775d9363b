"""A call counts while its token does: a layer that looks again before each.

The door looks once, when a request comes; a batch of it may wait for an hour between two calls.

Knows: tokens. Must not know: methods, transports.
"""

from prsm.node.callers.tokens import Tokens
from prsm.node.rpc.dispatch import Ask, Go, Layer
from prsm.node.rpc.errors import Unauthorised


def while_live(tokens: Tokens) -> Layer:
    """A layer that refuses calls of a token that ended since its request came.

    Its refusal is `Unauthorised`; the operator, who comes without a token, passes.
    """

    async def layer(ask: Ask, go: Go) -> object:
        token = ask.caller.token_id
        if token and not tokens.is_live(token):
            raise Unauthorised(
                f"{ask.caller.name} ended since this request came",
                hint="ask the node's operator for a token: prsm token new NAME",
            )
        return await go(ask)

    return layer
