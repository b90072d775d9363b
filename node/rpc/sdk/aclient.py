"""The client of a node for asyncio and trio alike, by anyio; it drives the flows of the sync one.

Importing it loads no loop: anyio, sockets and structs come with the first client that is made.

Knows: what may be asked of a node. Must not know: how a call travels (`adriver`), any room of the
daemon.
"""

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from prsm.node.rpc.mark import override
from prsm.node.rpc.sdk.surface import AsyncSurface

if TYPE_CHECKING:  # what is only named; each is loaded by the call that makes one
    from contextlib import AbstractContextManager
    from pathlib import Path

    from prsm.node.rpc.methods.models import ModelInfo
    from prsm.node.rpc.methods.tasks import TaskInfo
    from prsm.node.rpc.methods.work import TensorText
    from prsm.node.rpc.sdk.adriver import AsyncRows
    from prsm.node.rpc.sdk.aevents import AsyncEvents
    from prsm.node.rpc.sdk.ahandles import AsyncGeneration, AsyncJob, AsyncPlan
    from prsm.node.rpc.sdk.flows import Flow, Habits, Retries
    from prsm.node.rpc.spec import Method
    from prsm.node.rpc.target import Credentials, Target

T = TypeVar("T")


class AsyncClient(AsyncSurface):
    """A node, as `await client.job.list()`; arguments as of the sync `Client`.

    Raises:
        RpcError: node_unreachable or home_missing, if no node runs there.
    """

    def __init__(
        self,
        home: "str | Path | None" = None,
        *,
        node: str = "",
        shown: "Credentials | None" = None,
        timeout_s: float | None = None,
        retries: "Retries | None" = None,
    ) -> None:
        from prsm.node.rpc.sdk.adriver import AsyncDriver  # noqa: PLC0415 - loads anyio
        from prsm.node.rpc.sdk.reach import reach  # noqa: PLC0415 - loads structs

        found = reach(home, node=node, shown=shown, timeout_s=timeout_s, retries=retries)
        self.home = found.home
        self._driver = AsyncDriver(found)

    @property
    def target(self) -> "Target":
        """Where the node answers now.

        Raises:
            RpcError: node_unreachable or home_missing.
        """
        return self._driver.reach.target

    @property
    def habits(self) -> "Habits":
        """What flows of this client are made with."""
        return self._driver.reach.habits

    def last_words(self) -> "AbstractContextManager[object]":
        """A block whose calls still go out, for a while, where their caller was cancelled."""
        return self._driver.last_words()

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
        await self._driver.aclose()

    async def call(self, method: str, **params: object) -> Any:  # noqa: ANN401 - of that method
        """Call a method by the name of the table; its typed result.

        Raises:
            RpcError: of the class of its reason.
            AttributeError: no such method.
        """
        return await self._driver.call(method, params)

    async def call_raw(self, method: str, **params: object) -> bytes:
        """Call a method; the bytes of its result, verbatim."""
        return await self._driver.call_raw(method, params)

    def iter(self, method: str, **params: object) -> "AsyncRows":
        """All rows of a list, page by page, as they are read.

        Raises:
            AttributeError: no such method.
        """
        return self._driver.rows(method, params)

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
        from prsm.node.rpc.sdk.aevents import AsyncEvents  # noqa: PLC0415 - loads wsproto
        from prsm.node.rpc.sdk.feed import Feed, row_type  # noqa: PLC0415 - as above
        from prsm.node.rpc.sdk.flows import patient  # noqa: PLC0415 - as above

        feed = Feed(topic, wanted=wanted, resume_from=resume_from, row=row_type(topic))
        return AsyncEvents(feed, lambda: self.target, patient(self.habits))

    async def drive(self, flow: "Flow[T]") -> T:
        """Do what a flow asks for, until its end."""
        return await self._driver.drive(flow)

    @override
    async def _do(self, method: "Method", params: Mapping[str, object]) -> object:
        return await self._driver.ask(method, params)
