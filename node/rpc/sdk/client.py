"""The client of a node for programs and notebooks; plain sockets, so it works inside a loop too.

Importing it loads neither sockets nor structs: they come with the first client that is made, the
table of methods with its first call.

Knows: what may be asked of a node. Must not know: how a call travels (`driver`), any room of the
daemon, trio.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from prsm.node.rpc.mark import override
from prsm.node.rpc.sdk.surface import Surface

if TYPE_CHECKING:  # what is only named; each is loaded by the call that makes one
    from pathlib import Path

    from prsm.node.rpc.methods.models import ModelInfo
    from prsm.node.rpc.methods.tasks import TaskInfo
    from prsm.node.rpc.methods.work import TensorText
    from prsm.node.rpc.sdk.events import Events
    from prsm.node.rpc.sdk.flows import Flow, Habits, Retries
    from prsm.node.rpc.sdk.handles import Generation, Job, Plan
    from prsm.node.rpc.spec import Method
    from prsm.node.rpc.target import Credentials, Target

T = TypeVar("T")


class Client(Surface):
    """A node, as `client.job.list()`, `client.run(...)`, `client.subscribe("heads")`.

    Args:
        home: the node's folder; by default the one `prsm where` shows.
        node: an address instead of the one its endpoint file names; by default `PRSM_NODE`.
        shown: what to show instead of the cookie; by default `PRSM_TOKEN`, `PRSM_TOKEN_FILE`,
            `PRSM_SIGN_KEY` and `PRSM_CA_FILE`.
        timeout_s: of each call with all its tries; by default the method's own deadline.
        retries: how often a call is tried again, of those that may succeed later.

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
        from prsm.node.rpc.sdk.driver import Driver  # noqa: PLC0415 - loads sockets and structs
        from prsm.node.rpc.sdk.reach import reach  # noqa: PLC0415 - as above

        found = reach(home, node=node, shown=shown, timeout_s=timeout_s, retries=retries)
        self.home = found.home
        self._driver = Driver(found)

    @property
    def target(self) -> "Target":
        """Where the node answers now.

        Raises:
            RpcError: node_unreachable or home_missing.
        """
        return self._driver.reach.target

    def __enter__(self) -> Self:
        """Use the client in a `with` block, which closes it."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close its connections."""
        self.close()

    @override
    def __repr__(self) -> str:
        """Whose node it is."""
        return f"<prsm.client.Client of {self._driver.reach.node or self.home.root}>"

    def close(self) -> None:
        """Close its connections; a later call opens another."""
        self._driver.close()

    def call(self, method: str, **params: object) -> Any:  # noqa: ANN401 - of that method
        """Call a method by the name of the table; its typed result.

        Raises:
            RpcError: of the class of its reason.
            AttributeError: no such method.
        """
        return self._driver.call(method, params)

    def call_raw(self, method: str, **params: object) -> bytes:
        """Call a method; the bytes of its result, verbatim.

        Raises:
            RpcError, AttributeError: as `call`.
        """
        return self._driver.call_raw(method, params)

    def iter(self, method: str, **params: object) -> Iterator[Any]:
        """All rows of a list, page by page, as they are read.

        Raises:
            RpcError: as `call`.
            TypeError: the method answers no list.
        """
        return self._driver.rows(method, params)

    def run(self, model: str, rows: "Sequence[str | TensorText]", **options: object) -> "Job":
        """Run a model over rows on several peers; answers at once with the job.

        Args:
            model: name, name@version or CID.
            rows: one text a row, or the model's input tensors (`tensor(name, array)`).
            options: others of `infer_run`: max_price, replicas, stages, deadline_ms.
        """
        from prsm.node.rpc.sdk import handles, works  # noqa: PLC0415 - loads the table

        info = self.drive(works.begin_job(self.habits, model, rows, options))
        return handles.Job(self, info)

    def find_job(self, job_id: str) -> "Job":
        """A job of an earlier day."""
        from prsm.node.rpc.sdk import handles  # noqa: PLC0415 - loads the table

        return handles.Job(self, self.call("job_get", job_id=job_id))

    def run_plan(self, steps: "Sequence[Mapping[str, object]]", **options: object) -> "Plan":
        """Run several steps under one escrow; answers at once with the plan."""
        from prsm.node.rpc.sdk import handles  # noqa: PLC0415 - loads the table

        return handles.Plan(self, self.call("job_submit", steps=steps, **options))

    def generate(self, model: str, prompt: str, **options: object) -> "Generation":
        """Go on from a prompt; iterate it for the text as it comes.

        Args:
            model: name, name@version or CID.
            prompt: where to begin.
            options: others of `infer_generate`: max_tokens, temperature, seed, local.
        """
        from prsm.node.rpc.sdk import handles  # noqa: PLC0415 - loads the table

        info = self.call("infer_generate", model=model, prompt=prompt, **options)
        return handles.Generation(self, info)

    def pull(
        self,
        ref: str,
        *,
        timeout_s: float | None = None,
        on_progress: "Callable[[TaskInfo], None] | None" = None,
    ) -> "ModelInfo":
        """Fetch a model and wait until it is whole here.

        Args:
            ref: name, name@version or CID.
            timeout_s: how long to wait; the task goes on.
            on_progress: told about once a second.

        Raises:
            RpcError: of the reason it failed for.
        """
        from prsm.node.rpc.sdk import works  # noqa: PLC0415 - loads the table

        return self.drive(works.pull(self.habits, ref, timeout_s, on_progress))

    def wait_task(
        self,
        task: "TaskInfo",
        *,
        timeout_s: float | None = None,
        on_progress: "Callable[[TaskInfo], None] | None" = None,
    ) -> "TaskInfo":
        """Wait for the end of what a `start_…` call began.

        Raises:
            RpcError: of the reason it failed for; deadline_passed after `timeout_s`.
        """
        from prsm.node.rpc.sdk import works  # noqa: PLC0415 - loads the table

        return self.drive(works.wait_task(self.habits, task, timeout_s, on_progress))

    def subscribe(
        self,
        topic: str,
        *,
        wanted: Mapping[str, object] | None = None,
        resume_from: int | None = None,
    ) -> "Events[Any]":
        """Hear of a topic: `with client.subscribe("heads") as heads: for event in heads: …`.

        Args:
            topic: heads, rounds, votes, peers, jobs, tokens, transfers, models, logs, metrics,
                alerts.
            wanted: fields rows must have, such as `{"job_id": "0x…"}`.
            resume_from: number of the last row seen; 0 for all that is kept.
        """
        from prsm.node.rpc.sdk.events import Events  # noqa: PLC0415 - loads wsproto
        from prsm.node.rpc.sdk.feed import Feed, row_type  # noqa: PLC0415 - loads wsproto
        from prsm.node.rpc.sdk.flows import patient  # noqa: PLC0415 - as above

        feed = Feed(topic, wanted=wanted, resume_from=resume_from, row=row_type(topic))
        return Events(feed, lambda: self.target, patient(self.habits))

    @property
    def habits(self) -> "Habits":
        """What flows of this client are made with."""
        return self._driver.reach.habits

    def last_words(self) -> AbstractContextManager[None]:
        """A block whose calls go out in any case: nothing cancels who waits."""
        return nullcontext()

    def drive(self, flow: "Flow[T]") -> T:
        """Do what a flow asks for, until its end."""
        return self._driver.drive(flow)

    @override
    def _do(self, method: "Method", params: Mapping[str, object]) -> object:
        return self._driver.ask(method, params)
