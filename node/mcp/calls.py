"""Calls of the node from the server's loop: each in a thread, over a connection of its own.

Knows: the client of the node. Must not know: tools, methods.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import anyio.to_thread
import msgspec
from mcp.server.mcpserver.exceptions import ToolError

from prsm.node.rpc.client import Client, RpcError, Target
from prsm.node.rpc.reasons import entry_for
from prsm.protocol.errors import PrsmError

Document = dict[str, Any]  # of the node; its fields are those of the method table
TIMEOUT_S: Final = 130.0  # above the longest deadline of a method that is called here
T = TypeVar("T")


class Refused(ToolError):
    """The node answered, and said no."""


class Node:
    """The node that is asked; found anew for each call, for it may have been restarted."""

    def __init__(self, find: Callable[[], Target]) -> None:
        self._find = find

    async def ask(self, method: str, params: Mapping[str, object] | None = None) -> Document:
        """The result of a call, an object.

        Raises:
            ToolError: the node refused, or does not answer; in words for who called the tool.
        """
        return await in_thread(lambda: self._ask(method, params or {}))

    def _ask(self, method: str, params: Mapping[str, object]) -> Document:
        with Client(self._find(), timeout_s=TIMEOUT_S) as client:
            return msgspec.json.decode(client.call_raw(method, params), type=Document)


async def in_thread(work: Callable[[], T]) -> T:
    """Run what blocks; a cancelled tool does not wait for it.

    Raises:
        ToolError: what a typed error says.
    """
    try:
        return await anyio.to_thread.run_sync(work, abandon_on_cancel=True)
    except RpcError as error:
        raise Refused(in_words(error)) from error
    except PrsmError as error:
        raise told(error) from error


def told(error: PrsmError) -> ToolError:
    """A typed error of this side as that of a tool."""
    return ToolError(in_words(error))


def in_words(error: PrsmError | RpcError) -> str:
    """What is wrong, what to do, its number."""
    entry = entry_for(error.reason)
    return f"{error.what} ({error.hint or entry.fix}) [{entry.prsm_code}]"
