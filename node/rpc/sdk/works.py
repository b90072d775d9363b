"""Long work as both clients follow it: what to ask of jobs, plans, tasks and generations.

Knows: the methods of long work, flows. Must not know: sockets, loops.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, assert_never

from prsm.node.rpc.faults import RpcError
from prsm.node.rpc.methods.generation import GenerationInfo
from prsm.node.rpc.methods.models import ModelInfo
from prsm.node.rpc.methods.plans import Plan
from prsm.node.rpc.methods.tasks import TaskInfo
from prsm.node.rpc.methods.work import Job, JobResult, TensorText
from prsm.node.rpc.sdk import flows
from prsm.node.rpc.sdk.flows import Flow, Habits, Look
from prsm.node.rpc.sdk.names import method_named, params_of

T = TypeVar("T")
W = TypeVar("W", Job, Plan, TaskInfo)
Told = Callable[[T], None]


def ask(habits: Habits, method: str, params: Mapping[str, object]) -> Flow[Any]:
    """Call a method by its name; parameters as people write them."""
    found = method_named(method)
    return flows.ask(found, params_of(found, (), params), habits)


def begin_job(
    habits: Habits, model: str, rows: Sequence[str | TensorText], options: Mapping[str, object]
) -> Flow[Job]:
    """Run a model over rows: all texts, or all tensors."""
    texts = [row for row in rows if isinstance(row, str)]
    if texts and len(texts) != len(rows):
        raise TypeError("texts or tensors, not both")
    given = {"texts": texts} if texts else {"inputs": list(rows)}
    return ask(habits, "infer_run", {"model": model, **given, **options})


def wait_job(
    habits: Habits, job: Job, timeout_s: float | None, on_progress: Told[Job] | None
) -> Flow[Job]:
    """Wait for a job's end.

    Raises:
        RpcError: of the reason it failed for; deadline_passed after `timeout_s`.
    """
    hint = f"it goes on: client.job.get({job.job_id!r}), prsm job show {job.job_id}"
    look = Look(method_named("job_get"), {"job_id": job.job_id}, _is_over, hint)
    found = flows.wait_over(look, job, habits, timeout_s=timeout_s, on_progress=on_progress)
    return _unless_failed((yield from found), job.job_id, f"prsm job show {job.job_id}")


def wait_plan(
    habits: Habits, plan: Plan, timeout_s: float | None, on_progress: Told[Plan] | None
) -> Flow[Plan]:
    """Wait for a plan's end; errors as of `wait_job`."""
    show = f"prsm plan show {plan.plan_id}"
    look = Look(
        method_named("plan_get"), {"plan_id": plan.plan_id}, _is_over, f"it goes on: {show}"
    )
    found = flows.wait_over(look, plan, habits, timeout_s=timeout_s, on_progress=on_progress)
    return _unless_failed((yield from found), plan.plan_id, show)


def wait_task(
    habits: Habits, task: TaskInfo, timeout_s: float | None, on_progress: Told[TaskInfo] | None
) -> Flow[TaskInfo]:
    """Wait for a task's end; errors as of `wait_job`."""
    hint = f"it goes on: prsm task watch {task.task_id}"
    look = Look(method_named("task_get"), {"task_id": task.task_id}, _has_ended, hint)
    found = flows.wait_over(look, task, habits, timeout_s=timeout_s, on_progress=on_progress)
    return _unless_failed((yield from found), task.task_id, f"prsm task show {task.task_id}")


def pull(
    habits: Habits, ref: str, timeout_s: float | None, on_progress: Told[TaskInfo] | None
) -> Flow[ModelInfo]:
    """Fetch a model and wait until it is whole here.

    Raises:
        RpcError: of the reason it failed for.
    """
    task = yield from ask(habits, "model_startPull", {"ref": ref})
    ended = yield from wait_task(habits, task, timeout_s, on_progress)
    found: ModelInfo = yield from ask(habits, "model_pull", {"ref": ref, "task": ended.task_id})
    return found


def result_of(habits: Habits, job_id: str) -> Flow[JobResult]:
    """The outputs of a finished job."""
    return ask(habits, "job_getResult", {"job_id": job_id})


def read_tokens(habits: Habits, generation: GenerationInfo) -> Flow[GenerationInfo]:
    """The text since the last reading, or the end.

    Raises:
        RpcError: the generation failed.
    """
    params = {"generation_id": generation.generation_id, "wait_ms": 10_000}
    found: GenerationInfo = yield from ask(habits, "infer_readTokens", params)
    return found


def check_generation(info: GenerationInfo) -> None:
    """Raise what a generation failed of.

    Raises:
        RpcError: job_failed.
    """
    if info.is_over and info.state == "failed":
        hint = "client.infer.generate again, or prsm job show JOB"
        raise flows.fault_of_work(None, info.generation_id, info.state, hint)


def said(work: Job | Plan | GenerationInfo) -> str:
    """Long work in one line, as its handle shows it: id, state, how far."""
    match work:
        case Job():
            far = f"{work.rows_done}/{work.rows} rows"
            return f"<job {work.job_id[:10]}… {work.state} {far}>"
        case Plan():
            done = sum(step.state == "done" for step in work.steps)
            return f"<plan {work.plan_id[:10]}… {work.state} {done}/{len(work.steps)} steps>"
        case GenerationInfo():
            return f"<generation {work.generation_id[:10]}… {work.state}, {work.tokens} tokens>"
        case _:
            assert_never(work)


def _unless_failed(work: W, name: str, show: str) -> W:
    """Work that is over, if it is done.

    Raises:
        RpcError: of the reason it failed for.
    """
    if work.state != "done":
        raise flows.fault_of_work(work.error, name, work.state, show)
    return work


def _is_over(work: Job | Plan) -> bool:
    return work.is_over


def _has_ended(task: TaskInfo) -> bool:
    return task.state != "running"


__all__ = [
    "RpcError",
    "ask",
    "begin_job",
    "check_generation",
    "pull",
    "read_tokens",
    "result_of",
    "said",
    "wait_job",
    "wait_plan",
    "wait_task",
]
