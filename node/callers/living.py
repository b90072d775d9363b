"""A call counts while its token does: layers that look again before each.

The door looks once, when a request comes; a batch of it may wait for an hour between two calls, and
a call with a key for the end of the one before.

Knows: tokens. Must not know: methods, transports.
"""

from prsm.node.callers.tokens import Tokens
from prsm.node.rpc.dispatch import Ask, Go, Layer
from prsm.node.rpc.errors import Unauthorised


def while_live(tokens: Tokens, *waits: Layer) -> tuple[Layer, ...]:
    """Layers that refuse calls of a token that ended since its request came.

    The refusal is `Unauthorised`; the operator, who comes without a token, passes.

    Args:
        tokens: of this node.
        waits: layers in which a call may wait; it is looked at before them and behind.
    """

    async def layer(ask: Ask, go: Go) -> object:
        token = ask.caller.token_id
        if token and not tokens.is_live(token):
            raise Unauthorised(
                f"{ask.caller.name} ended since this request came",
                hint="ask the node's operator for a token: prsm token new NAME",
            )
        return await go(ask)

    return (layer, *waits, layer) if waits else (layer,)
