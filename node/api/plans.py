"""Handlers of job_submit and plan_: plans of several steps.

Knows: plans, models by reference, the ledger's escrow. Must not know: transports, how a step is
done.
"""

import msgspec
import trio

from prsm.node.api.evaluations import EvaluationsApi
from prsm.node.api.work import parse_tensor, tensor_text
from prsm.node.chain.driver import Driver
from prsm.node.clock import utc_text
from prsm.node.inference.evaluation.requester import Evaluations
from prsm.node.models import Models
from prsm.node.rpc.dispatch import Handler
from prsm.node.rpc.methods import plans as api
from prsm.node.rpc.methods.work import JobFault
from prsm.node.rpc.spec import Caller, NoParams
from prsm.node.workplans.graph import Embed, Infer, PlanFault, Search, Step, Work, Workplan
from prsm.node.workplans.plans import Plans
from prsm.node.workplans.progress import PlanRun, StepRun
from prsm.node.workplans.steps import HITS
from prsm.protocol.errors import PrsmError
from prsm.protocol.ids import address_text, parse_hex


class PlansApi:
    """Answers about plans."""

    def __init__(self, models: Models, plans: Plans, driver: Driver) -> None:
        self._models, self._plans, self._driver = models, plans, driver

    def handlers(self) -> dict[str, Handler]:
        """Method name -> handler."""
        return {
            "job_submit": self.submit,
            "plan_get": self.get,
            "plan_list": self.list,
            "plan_cancel": self.cancel,
            "plan_getResult": self.result,
        }

    async def submit(self, params: api.SubmitParams, _caller: Caller) -> api.Plan:
        """Run a plan; answers with it."""
        steps = tuple([await self._step(given) for given in params.steps])
        plan = Workplan(steps, int(params.budget), params.deadline_ms)
        return await self._answer(await self._plans.submit(plan), params.wait_ms)

    async def get(self, params: api.PlanParams, _caller: Caller) -> api.Plan:
        """A plan and its steps; with `wait_ms`, when it ends or then."""
        return await self._answer(_plan_id(params.plan_id), params.wait_ms)

    async def list(self, _params: NoParams, _caller: Caller) -> api.Plans:
        """Plans of ours, newest first."""
        return api.Plans(items=tuple(self._plan(run) for run in self._plans.list()))

    async def cancel(self, params: api.PlanIdParams, _caller: Caller) -> api.Plan:
        """Stop a plan."""
        plan_id = _plan_id(params.plan_id)
        self._plans.cancel(plan_id)
        return self._plan(await self._plans.wait(plan_id))

    async def result(self, params: api.PlanResultParams, _caller: Caller) -> api.PlanResult:
        """The output of a step, read by its CID."""
        plan_id = _plan_id(params.plan_id)
        outputs = await self._plans.result(plan_id, params.step)
        run = self._plans.get(plan_id)
        step = params.step or next(reversed(run.steps))
        hits: list[api.PlanHit] = []
        tensors = outputs
        if [tensor.head.name for tensor in outputs] == [HITS]:
            listed = msgspec.json.decode(outputs[0].data, type=list[list[dict[str, object]]])
            rows = [{"row": row, **hit} for row, found in enumerate(listed) for hit in found]
            hits = [msgspec.convert(row, api.PlanHit) for row in rows]
            tensors = ()
        return api.PlanResult(
            plan_id=params.plan_id,
            step=step,
            output=str(run.steps[step].output),
            hits=tuple(hits),
            tensors=tuple(tensor_text(tensor) for tensor in tensors),
        )

    async def _step(self, given: api.PlanStep) -> Step:
        cap = None if given.max_price is None else int(given.max_price)
        return Step(given.id, await self._work(given), cap, given.after)

    async def _work(self, given: api.PlanStep) -> Work:
        source = given.takes or ""
        if given.kind == "search":
            return Search(source, given.limit)
        if given.model is None:
            raise PlanFault(f"step {given.id} names no model", step=given.id)
        model = (await self._models.find(given.model)).cid.raw
        if given.kind == "embed":
            return Embed(model, given.texts)
        inputs = tuple(parse_tensor(one) for one in given.inputs)
        return Infer(model, given.texts, inputs, source, tuple(given.renamed.items()))

    async def _answer(self, plan_id: bytes, wait_ms: int) -> api.Plan:
        if wait_ms:
            with trio.move_on_after(wait_ms / 1000):
                await self._plans.wait(plan_id)
        return self._plan(self._plans.get(plan_id))

    def _plan(self, run: PlanRun) -> api.Plan:
        escrow = self._driver.ledger.view.job(run.id)
        return api.Plan(
            plan_id=address_text(run.id),
            state=run.state.value,
            is_over=run.is_over,
            created=utc_text(run.made_ms),
            budget=str(run.plan.budget),
            left=str(0 if escrow is None else escrow.budget),
            lock_height=run.lock_height,
            steps=tuple(_step_info(step) for step in run.steps.values()),
            error=_fault(run.error),
        )


def step_handlers(
    models: Models, plans: Plans, evaluations: Evaluations, driver: Driver
) -> dict[str, Handler]:
    """Handlers of plans and of evaluations."""
    return {
        **PlansApi(models, plans, driver).handlers(),
        **EvaluationsApi(models, evaluations).handlers(),
    }


def _step_info(run: StepRun) -> api.PlanStepInfo:
    return api.PlanStepInfo(
        id=run.step.id,
        kind=type(run.step.work).__name__.lower(),
        state=run.state.value,
        needs=run.step.needs,
        jobs=tuple(address_text(job) for job in run.jobs),
        output=None if run.output is None else str(run.output),
        error=_fault(run.error),
    )


def _fault(error: PrsmError | None) -> JobFault | None:
    return None if error is None else JobFault(error.reason, error.what)


def _plan_id(text: str) -> bytes:
    return parse_hex(text, size=32, what="plan id")
