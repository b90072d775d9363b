"""Work somebody waits for, as two calls: one that begins it, one that waits for its end.

Knows: which methods begin work, and how it is waited for. Must not know: whose it is, what it
costs.
"""

from dataclasses import replace

import msgspec

from prsm.node.callers.belongings import OWNED
from prsm.node.rpc.dispatch import Ask, Go
from prsm.node.rpc.errors import only_leaf
from prsm.node.rpc.methods.table import METHODS
from prsm.protocol.errors import PrsmError


async def start_then_wait(ask: Ask, go: Go) -> object:
    """A layer: work somebody waits for is started first, so that it has an owner while it runs.

    Whoever hangs up while waiting must not leave work that is nobody's, or a price nobody settles.
    A wait that is refused answers with what was begun: told of a refusal, its caller would begin
    it once more.
    """
    belonging, wait_ms = OWNED.get(ask.method.name), getattr(ask.params, "wait_ms", 0)
    is_known = ask.caller.tenant or ask.caller.token_id
    if belonging is None or not belonging.later or not wait_ms or not is_known:
        return await go(ask)
    made = await go(replace(ask, params=msgspec.structs.replace(ask.params, wait_ms=0)))
    assert belonging.made is not None
    later, name = METHODS[belonging.later], belonging.made.field
    params = msgspec.convert({name: getattr(made, name), "wait_ms": wait_ms}, later.params)
    try:
        return await go(replace(ask, method=later, params=params))
    except Exception as error:
        if not isinstance(only_leaf(error), PrsmError):
            raise
        return made
