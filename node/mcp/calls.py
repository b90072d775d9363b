"""Calls of the node from the server's loop: each in a thread, over a connection of its own.

Knows: the client of the node. Must not know: tools, methods.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import anyio
import anyio.to_thread
import msgspec
from mcp.server.mcpserver.exceptions import ToolError

from prsm.node.rpc.client import Client, RpcError, Target
from prsm.node.rpc.reasons import UNCLEAR, entry_for
from prsm.protocol.errors import PrsmError

Document = dict[str, Any]  # of the node; its fields are those of the method table
TIMEOUT_S: Final = 130.0  # above the longest deadline of a method that is called here
_TRIES: Final = 20
_WAIT_MS: Final = 2_000
_NOBODY: Final = (ConnectionRefusedError, FileNotFoundError)  # of a connection, before any byte
T = TypeVar("T")


class Refused(ToolError):
    """The node answered, and said no.

    Attributes:
        retry_after_ms: it is worth asking again then; 0: it is not.
        is_clear: the call had no effect; else nobody knows.
    """

    def __init__(self, what: str, *, retry_after_ms: int = 0, is_clear: bool = True) -> None:
        super().__init__(what)
        self.retry_after_ms, self.is_clear = retry_after_ms, is_clear


class Away(ToolError):
    """The node is not there: nothing was asked of it."""


class Node:
    """The node that is asked; found anew for each call, for it may have been restarted."""

    def __init__(self, find: Callable[[], Target]) -> None:
        self._find = find

    async def ask(self, method: str, params: Mapping[str, object] | None = None) -> Document:
        """The result of a call, an object.

        Over its quota of calls, it asks again: what is refused so was not run.

        Raises:
            ToolError: the node refused, or does not answer; in words for who called the tool.
        """
        for _ in range(_TRIES):
            try:
                return await in_thread(lambda: self._ask(method, params or {}))
            except Refused as error:
                if not 0 < error.retry_after_ms <= _WAIT_MS:
                    raise
                await anyio.sleep(error.retry_after_ms / 1000)
        return await in_thread(lambda: self._ask(method, params or {}))

    def _ask(self, method: str, params: Mapping[str, object]) -> Document:
        try:
            target = self._find()
        except PrsmError as error:
            raise Away(in_words(error)) from error
        with Client(target, timeout_s=TIMEOUT_S) as client:
            return msgspec.json.decode(client.call_raw(method, params), type=Document)


async def in_thread(work: Callable[[], T]) -> T:
    """Run what blocks; a cancelled tool does not wait for it.

    Raises:
        ToolError: what a typed error says.
    """
    try:
        return await anyio.to_thread.run_sync(work, abandon_on_cancel=True)
    except RpcError as error:
        wait_ms = error.data.get("retry_after_ms")
        known_ms = wait_ms if isinstance(wait_ms, int) else 0
        is_clear = error.reason not in UNCLEAR
        raise Refused(in_words(error), retry_after_ms=known_ms, is_clear=is_clear) from error
    except UnicodeEncodeError as error:  # before anything is sent
        half = f"half a character at {error.start}"
        raise Refused(f"what is given holds no text that can be sent ({half})") from error
    except PrsmError as error:
        if isinstance(error.__cause__, _NOBODY):
            raise Away(in_words(error)) from error
        raise told(error) from error


def told(error: PrsmError) -> ToolError:
    """A typed error of this side as that of a tool."""
    return ToolError(in_words(error))


def in_words(error: PrsmError | RpcError) -> str:
    """What is wrong, what to do, its number."""
    entry = entry_for(error.reason)
    return f"{error.what} ({error.hint or entry.fix}) [{entry.prsm_code}]"
