"""Handles to long work, for the client that waits: a job, a plan, a generation.

Knows: what may be asked of them. Must not know: sockets, loops.
"""

# Written by scripts/unasync.py from ahandles.py.

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from typing_extensions import override

from prsm.node.rpc.methods import generation, plans, work
from prsm.node.rpc.sdk import works
from prsm.node.rpc.sdk.receipts import Proof
from prsm.node.rpc.sdk.tensors import view

if TYPE_CHECKING:
    from prsm.node.rpc.sdk.client import Client


class Job:
    """A job: `info` is what was last heard of it."""

    def __init__(self, client: "Client", info: work.Job) -> None:
        self._client = client
        self.info = info

    @property
    def id(self) -> str:
        """Its name, on this node and on the ledger."""
        return self.info.job_id

    def refresh(self) -> Self:
        """Hear of it anew."""
        self.info = self._client.call("job_get", job_id=self.id)
        return self

    def wait(
        self,
        timeout_s: float | None = None,
        *,
        on_progress: Callable[[work.Job], None] | None = None,
    ) -> Self:
        """Wait until it is done.

        Args:
            timeout_s: how long; the job goes on. None: as long as it takes.
            on_progress: told about once a second.

        Raises:
            RpcError: of the reason it failed for; deadline_passed after `timeout_s`.
        """
        flow = works.wait_job(self._client.habits, self.info, timeout_s, on_progress)
        self.info = self._client.drive(flow)
        return self

    def result(self) -> work.JobResult:
        """Its outputs as the node writes them, once it is done."""
        return self._client.drive(works.result_of(self._client.habits, self.id))

    def outputs(self) -> dict[str, memoryview]:
        """Its outputs by name, shaped; `numpy.asarray` takes them without a copy.

        Raises:
            ValueError: a dtype without a view; `result` has its bytes.
        """
        result = self.result()
        return {one.name: view(one) for one in result.outputs}

    def cancel(self) -> Self:
        """Stop it; what is not settled comes back."""
        self.info = self._client.call("job_cancel", job_id=self.id)
        return self

    def trace(self) -> work.JobTrace:
        """When each of its steps began and ended; a notebook shows it as bars."""
        found: work.JobTrace = self._client.call("job_getTrace", job_id=self.id)
        return found

    def retry(self, *, max_price: int | None = None) -> "Job":
        """Run the same once more, as a job of its own; this one must be over.

        Args:
            max_price: micro-FTNS to lock at most; None: as this one.
        """
        more = {} if max_price is None else {"max_price": max_price}
        info = self._client.call("job_retry", job_id=self.id, **more)
        return Job(self._client, info)

    def proof(self, *, epoch: int = 0) -> Proof:
        """Its receipt, which anybody can check offline.

        Args:
            epoch: it begins with the validators of this epoch.
        """
        raw = self._client.call_raw("job_getProof", job_id=self.id, epoch=epoch)
        return Proof(raw, genesis=self._client.home.genesis)

    @override
    def __repr__(self) -> str:
        """Id, state, how far."""
        return works.said(self.info)

    def _repr_html_(self) -> str:
        return self.info._repr_html_()


class Plan:
    """A plan of several steps: `info` is what was last heard of it."""

    def __init__(self, client: "Client", info: plans.Plan) -> None:
        self._client = client
        self.info = info

    @property
    def id(self) -> str:
        """Its name, and its escrow's."""
        return self.info.plan_id

    def wait(
        self,
        timeout_s: float | None = None,
        *,
        on_progress: Callable[[plans.Plan], None] | None = None,
    ) -> Self:
        """Wait until it is done; as `Job.wait`."""
        flow = works.wait_plan(self._client.habits, self.info, timeout_s, on_progress)
        self.info = self._client.drive(flow)
        return self

    def result(self, step: str = "") -> plans.PlanResult:
        """The output of a step, by default the last."""
        found: plans.PlanResult = self._client.call("plan_getResult", plan_id=self.id, step=step)
        return found

    def cancel(self) -> Self:
        """Stop it; outputs of steps that are done stay."""
        self.info = self._client.call("plan_cancel", plan_id=self.id)
        return self

    @override
    def __repr__(self) -> str:
        """Id, state, steps done."""
        return works.said(self.info)

    def _repr_html_(self) -> str:
        return self.info._repr_html_()


class Generation:
    """Text that comes: iterate it, or `read()` all. Leaving its `with` block ends it."""

    def __init__(self, client: "Client", info: generation.GenerationInfo) -> None:
        self._client = client
        self.info = info
        self.text = info.text
        self._is_begun = False

    @property
    def id(self) -> str:
        """Its name on this node."""
        return self.info.generation_id

    def __iter__(self) -> Self:
        """Pieces of text as they come; who stopped reading goes on where it was."""
        return self

    def __next__(self) -> str:
        """The next piece.

        Raises:
            RpcError: it failed, or nobody read it for too long.
        """
        if not self._is_begun:
            self._is_begun = True
            if self.info.text:
                return self.info.text
        while not self.info.is_over:
            flow = works.read_tokens(self._client.habits, self.info)
            self.info = self._client.drive(flow)
            self.text += self.info.text
            if self.info.text:
                return self.info.text
        works.check_generation(self.info)
        raise StopIteration

    def read(self) -> str:
        """All of the text, once it is over."""
        for _ in self:
            pass
        return self.text

    def end(self) -> Self:
        """End it now; what was done is paid."""
        if not self.info.is_over:
            self.info = self._client.call("infer_endGeneration", generation_id=self.id)
            self.text += self.info.text
        return self

    def __enter__(self) -> Self:
        """Use it in a `with` block, which ends it."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it, if it is not over."""
        self.close()

    def close(self) -> None:
        """End it, if it is not over; a cancelled reader still says so."""
        with self._client.last_words():
            self.end()

    @override
    def __repr__(self) -> str:
        """Id, state, tokens."""
        return works.said(self.info)
