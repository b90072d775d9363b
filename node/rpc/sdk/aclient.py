"""The client of a node for asyncio and trio alike, by anyio; it drives the flows of the sync one.

Calls of one client may overlap; each takes a connection of its own while it lasts, eight are kept.

Knows: how flows are driven over anyio's streams. Must not know: any room of the daemon.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import anyio
from anyio.abc import ByteStream, SocketAttribute
from typing_extensions import override

from prsm.node.rpc.client import is_readable, stranger, unreachable
from prsm.node.rpc.errors import CallTimeout, NodeUnreachable
from prsm.node.rpc.faults import RpcError, fault_here
from prsm.node.rpc.sdk import flows, names
from prsm.node.rpc.sdk.aevents import GONE, AsyncEvents, open_stream
from prsm.node.rpc.sdk.flows import Ask, Flow, Habits, Rest, Retries
from prsm.node.rpc.sdk.reach import KEPT_MAX, reach
from prsm.node.rpc.sdk.surface import AsyncSurface
from prsm.node.rpc.target import Credentials, Target
from prsm.node.rpc.wire import (
    READ_BYTES,
    Answer,
    AnswerReader,
    decode_reply,
    encode_call,
    encode_request,
)
from prsm.protocol.errors import PrsmError

if TYPE_CHECKING:  # what is only named; each is loaded by the call that makes one
    from prsm.node.rpc.methods.models import ModelInfo
    from prsm.node.rpc.methods.tasks import TaskInfo
    from prsm.node.rpc.methods.work import TensorText
    from prsm.node.rpc.sdk.ahandles import AsyncGeneration, AsyncJob, AsyncPlan
    from prsm.node.rpc.spec import Method

T = TypeVar("T")
_LAST_WORDS_S: Final = 5.0
CONNECTIONS_MAX: Final = 256  # half of what a node takes from all its clients


class AsyncClient(AsyncSurface):
    """A node, as `await client.job.list()`; arguments as of the sync `Client`.

    Raises:
        RpcError: node_unreachable or home_missing, if no node runs there.
    """

    def __init__(
        self,
        home: str | Path | None = None,
        *,
        node: str = "",
        shown: Credentials | None = None,
        timeout_s: float | None = None,
        retries: Retries | None = None,
    ) -> None:
        self._reach = reach(home, node=node, shown=shown, timeout_s=timeout_s, retries=retries)
        self.home = self._reach.home
        self._idle: list[ByteStream] = []
        self._places = anyio.Semaphore(CONNECTIONS_MAX)

    @property
    def target(self) -> Target:
        """Where the node answers now.

        Raises:
            RpcError: node_unreachable or home_missing.
        """
        return self._reach.target

    @property
    def habits(self) -> Habits:
        """What flows of this client are made with."""
        return self._reach.habits

    def last_words(self) -> anyio.CancelScope:
        """A block whose calls still go out, for a while, where their caller was cancelled."""
        return anyio.move_on_after(_LAST_WORDS_S, shield=True)  # noqa: ASYNC122 - entered at once

    async def __aenter__(self) -> Self:
        """Use the client in an `async with` block, which closes it."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close its connections."""
        await self.aclose()

    async def aclose(self) -> None:
        """Close its connections; a later call opens another."""
        while self._idle:
            await anyio.aclose_forcefully(self._idle.pop())

    async def call(self, method: str, **params: object) -> Any:  # noqa: ANN401 - of that method
        """Call a method by the name of the table; its typed result.

        Raises:
            RpcError: of the class of its reason.
            AttributeError: no such method.
        """
        return await self._do(names.method_named(method), params)

    async def call_raw(self, method: str, **params: object) -> bytes:
        """Call a method; the bytes of its result, verbatim."""
        found = names.method_named(method)
        return await self.drive(flows.call(found, names.params_of(found, (), params), self.habits))

    def iter(self, method: str, **params: object) -> "AsyncRows":
        """All rows of a list, page by page, as they are read.

        Raises:
            AttributeError: no such method.
        """
        found = names.method_named(method)
        return AsyncRows(self, found, names.params_of(found, (), params))

    async def run(
        self, model: str, rows: "Sequence[str | TensorText]", **options: object
    ) -> "AsyncJob":
        """Run a model over rows on several peers; answers at once with the job."""
        from prsm.node.rpc.sdk import ahandles, works  # noqa: PLC0415 - loads the table

        info = await self.drive(works.begin_job(self.habits, model, rows, options))
        return ahandles.AsyncJob(self, info)

    async def find_job(self, job_id: str) -> "AsyncJob":
        """A job of an earlier day."""
        from prsm.node.rpc.sdk import ahandles  # noqa: PLC0415 - loads the table

        return ahandles.AsyncJob(self, await self.call("job_get", job_id=job_id))

    async def run_plan(
        self, steps: "Sequence[Mapping[str, object]]", **options: object
    ) -> "AsyncPlan":
        """Run several steps under one escrow; answers at once with the plan."""
        from prsm.node.rpc.sdk import ahandles  # noqa: PLC0415 - loads the table

        return ahandles.AsyncPlan(self, await self.call("job_submit", steps=steps, **options))

    async def generate(self, model: str, prompt: str, **options: object) -> "AsyncGeneration":
        """Go on from a prompt; iterate it for the text as it comes."""
        from prsm.node.rpc.sdk import ahandles  # noqa: PLC0415 - loads the table

        info = await self.call("infer_generate", model=model, prompt=prompt, **options)
        return ahandles.AsyncGeneration(self, info)

    async def pull(
        self,
        ref: str,
        *,
        timeout_s: float | None = None,
        on_progress: "Callable[[TaskInfo], None] | None" = None,
    ) -> "ModelInfo":
        """Fetch a model and wait until it is whole here; as the sync `Client.pull`."""
        from prsm.node.rpc.sdk import works  # noqa: PLC0415 - loads the table

        return await self.drive(works.pull(self.habits, ref, timeout_s, on_progress))

    async def wait_task(
        self,
        task: "TaskInfo",
        *,
        timeout_s: float | None = None,
        on_progress: "Callable[[TaskInfo], None] | None" = None,
    ) -> "TaskInfo":
        """Wait for the end of what a `start_…` call began; as the sync `Client.wait_task`."""
        from prsm.node.rpc.sdk import works  # noqa: PLC0415 - loads the table

        return await self.drive(works.wait_task(self.habits, task, timeout_s, on_progress))

    def subscribe(
        self,
        topic: str,
        *,
        wanted: Mapping[str, object] | None = None,
        resume_from: int | None = None,
    ) -> "AsyncEvents[Any]":
        """Hear of a topic: `async with client.subscribe("heads") as heads: async for …`."""
        from prsm.node.rpc.sdk.feed import Feed, row_type  # noqa: PLC0415 - loads wsproto

        feed = Feed(topic, wanted=wanted, resume_from=resume_from, row=row_type(topic))
        return AsyncEvents(feed, lambda: self.target, flows.patient(self.habits))

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

    @override
    async def _do(self, method: "Method", params: Mapping[str, object]) -> object:
        values = names.params_of(method, (), params)
        return await self.drive(flows.ask(method, values, self.habits))

    async def _try(self, step: Ask) -> bytes | RpcError:
        try:
            return await self._ask(step)
        except RpcError as error:
            return error

    async def _ask(self, step: Ask) -> bytes:
        target = self.target
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

    def __init__(self, client: AsyncClient, method: "Method", params: Mapping[str, object]) -> None:
        self._client = client
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
            flow = flows.page(self._method, self._params, self._cursor, self._client.habits)
            page = await self._client.drive(flow)
            self._rows.extend(page.items)
            self._cursor, self._is_last = page.cursor, page.cursor is None
        if not self._rows:
            raise StopAsyncIteration
        return self._rows.popleft()
