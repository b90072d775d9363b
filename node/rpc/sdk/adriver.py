"""How the async client does what flows ask for: over anyio's streams, on asyncio and trio alike.

Calls of one client may overlap; each takes a connection of its own while it lasts, eight are kept.

Knows: flows, anyio. Must not know: what people call (`aclient`), any room of the daemon.
"""

from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import anyio
from anyio.abc import ByteStream, SocketAttribute

from prsm.node.rpc.client import is_readable, stranger, unreachable
from prsm.node.rpc.errors import CallTimeout, NodeUnreachable
from prsm.node.rpc.faults import RpcError, fault_here
from prsm.node.rpc.sdk import flows, names
from prsm.node.rpc.sdk.aevents import GONE, open_stream
from prsm.node.rpc.sdk.flows import Ask, Flow, Rest
from prsm.node.rpc.sdk.reach import KEPT_MAX, Reach
from prsm.node.rpc.target import Target
from prsm.node.rpc.wire import (
    READ_BYTES,
    Answer,
    AnswerReader,
    decode_reply,
    encode_call,
    encode_request,
)
from prsm.protocol.errors import PrsmError

if TYPE_CHECKING:
    from prsm.node.rpc.spec import Method  # its module takes 3 ms, its bare name nothing

T = TypeVar("T")
_LAST_WORDS_S: Final = 5.0
CONNECTIONS_MAX: Final = 256  # half of what a node takes from all its clients


class AsyncDriver:
    """The connections of one client, and what is done over them."""

    def __init__(self, reach: Reach) -> None:
        self.reach = reach
        self._idle: list[ByteStream] = []
        self._places = anyio.Semaphore(CONNECTIONS_MAX)

    def last_words(self) -> anyio.CancelScope:
        """A block whose calls still go out, for a while, where their caller was cancelled."""
        return anyio.move_on_after(_LAST_WORDS_S, shield=True)  # noqa: ASYNC122 - entered at once

    async def aclose(self) -> None:
        """Close its connections; a later call opens another."""
        while self._idle:
            await anyio.aclose_forcefully(self._idle.pop())

    async def ask(self, method: "Method", params: Mapping[str, object]) -> Any:  # noqa: ANN401 - of that method
        """Call a method; its typed result.

        Raises:
            RpcError: of the class of its reason.
        """
        values = names.params_of(method, (), params)
        return await self.drive(flows.ask(method, values, self.reach.habits))

    async def call(self, name: str, params: Mapping[str, object]) -> Any:  # noqa: ANN401 - of that method
        """Call a method by the name of the table; its typed result.

        Raises:
            RpcError: of the class of its reason.
            AttributeError: no such method.
        """
        return await self.ask(names.method_named(name), params)

    async def call_raw(self, name: str, params: Mapping[str, object]) -> bytes:
        """The bytes of a result, verbatim.

        Raises:
            RpcError, AttributeError: as `call`.
        """
        found = names.method_named(name)
        values = names.params_of(found, (), params)
        return await self.drive(flows.call(found, values, self.reach.habits))

    def rows(self, name: str, params: Mapping[str, object]) -> "AsyncRows":
        """All rows of a list, page by page, as they are read.

        Raises:
            AttributeError: no such method.
        """
        found = names.method_named(name)
        return AsyncRows(self, found, names.params_of(found, (), params))

    async def drive(self, flow: Flow[T]) -> T:
        """Do what a flow asks for, until its end."""
        try:
            step = next(flow)
            while True:
                if isinstance(step, Rest):
                    await anyio.sleep(step.seconds)
                    step = flow.send(b"")
                    continue
                answer = await self._try(step)
                step = flow.throw(answer) if isinstance(answer, RpcError) else flow.send(answer)
        except StopIteration as done:
            value: T = done.value
            return value
        except RpcError as error:
            # Where it was thrown is the client's own business; its reader wants the call.
            raise error.with_traceback(None) from error.__cause__

    async def _try(self, step: Ask) -> bytes | RpcError:
        try:
            return await self._ask(step)
        except RpcError as error:
            return error

    async def _ask(self, step: Ask) -> bytes:
        target = self.reach.target
        body = encode_call(1, step.method, step.params)
        try:
            with anyio.fail_after(step.limit_s):
                async with self._places:
                    answer = await self._exchange(target, body)
            return decode_reply(answer)
        except TimeoutError as error:
            what = f"{target.text} did not answer in {step.limit_s:g} s"
            raise fault_here(CallTimeout(what, hint="give it more with timeout_s")) from error
        except OSError as error:
            await self.aclose()  # a node that began anew closed them all
            raise fault_here(unreachable(target, error)) from error
        except GONE as error:
            await self.aclose()
            raise fault_here(NodeUnreachable(f"the node hung up ({error!r})")) from error
        except ValueError as error:
            raise fault_here(stranger(target, str(error))) from error
        except PrsmError as error:
            raise fault_here(error) from error  # a key or certificate that cannot be read

    async def _exchange(self, target: Target, body: bytes) -> Answer:
        token = target.token()
        answer = await self._send(target, body, token)
        if answer.status == 401 and target.token() != token:
            # Refused before it ran: the node was restarted and wrote another cookie.
            answer = await self._send(target, body, target.token())
        return answer

    async def _send(self, target: Target, body: bytes, token: str) -> Answer:
        # The bearer as it was looked up, so that a second try can tell whether it is another.
        bearer = {"Authorization": f"Bearer {token}"}
        headers = bearer if token else target.proof("POST", "/rpc", body)
        request = encode_request("POST", "/rpc", target.host, body=body, headers=headers)
        stream = await self._kept() or await open_stream(target)
        keep = False
        try:
            await stream.send(request)
            reader = AnswerReader()
            while (answer := reader.feed(await stream.receive(READ_BYTES))) is None:
                pass
            keep = answer.keep and len(self._idle) < KEPT_MAX
        finally:
            if keep:
                self._idle.append(stream)
            else:
                await anyio.aclose_forcefully(stream)
        return answer

    async def _kept(self) -> ByteStream | None:
        """A kept connection the node has not closed meanwhile."""
        while self._idle:
            stream = self._idle.pop()
            plain = stream.extra(SocketAttribute.raw_socket)  # noqa: S610 - anyio's, not Django's
            if not is_readable(plain, 0):
                return stream
            await anyio.aclose_forcefully(stream)
        return None


class AsyncRows:
    """Rows of a list; the next page is asked for when the last row of one is read.

    No generator: trio warns of one that is left before its end.
    """

    def __init__(
        self, driver: "AsyncDriver", method: "Method", params: Mapping[str, object]
    ) -> None:
        self._driver = driver
        self._method = method
        self._params = params
        self._rows: deque[Any] = deque()
        self._cursor: str | None = None
        self._is_last = False

    def __aiter__(self) -> Self:
        """Go on from where it is."""
        return self

    async def __anext__(self) -> Any:  # noqa: ANN401 - a row of that method
        """The next row.

        Raises:
            RpcError: the node refused.
            TypeError: the method answers no list.
        """
        while not self._rows and not self._is_last:
            flow = flows.page(self._method, self._params, self._cursor, self._driver.reach.habits)
            page = await self._driver.drive(flow)
            self._rows.extend(page.items)
            self._cursor, self._is_last = page.cursor, page.cursor is None
        if not self._rows:
            raise StopAsyncIteration
        return self._rows.popleft()
