"""Handlers of model_ of evaluation: scores asked for and shown.

Knows: models by reference, tasks, the ledger's scores. Must not know: transports, how a score
comes to be.
"""

from prsm.consensus.ledger.evaluations import Score
from prsm.consensus.ledger.view import View
from prsm.node.api.tasks import result_of, task_info
from prsm.node.inference.evaluation.requester import Evaluations, EvaluationWish
from prsm.node.models import Models, Task
from prsm.node.rpc.dispatch import Handler
from prsm.node.rpc.methods import evaluations as api
from prsm.node.rpc.methods.tasks import TaskInfo
from prsm.node.rpc.spec import Caller
from prsm.protocol.ids import address_text
from prsm.protocol.scores import MILLION, wilson
from prsm.storage.cid import decode_cid


class EvaluationsApi:
    """Answers about scores."""

    def __init__(self, models: Models, evaluations: Evaluations) -> None:
        self._models, self._evaluations = models, evaluations

    def handlers(self) -> dict[str, Handler]:
        """Method name -> handler."""
        return {
            "model_evaluate": self.evaluate,
            "model_startEvaluate": self.start,
            "model_listScores": self.scores,
        }

    async def evaluate(self, params: api.EvaluateParams, caller: Caller) -> api.Evaluation:
        """Evaluate a model; the work outlives the call."""
        tasks = self._models.tasks
        task = self._start(params, caller) if params.task is None else tasks.get(params.task)
        return await result_of(task, api.Evaluation)

    async def start(self, params: api.EvaluateParams, caller: Caller) -> TaskInfo:
        """The same, with the task at once."""
        return task_info(self._start(params, caller))

    async def scores(self, params: api.ScoresParams, _caller: Caller) -> api.Scores:
        """Scores of a model."""
        known = await self._models.find(params.ref)
        called = f"{known.manifest.name}@{known.manifest.semver}"
        return api.Scores(called, score_infos(self._models.view, known.cid.raw))

    def _start(self, params: api.EvaluateParams, caller: Caller) -> Task:
        model, dataset = self._models.resolve(params.model), self._models.resolve(params.dataset)
        wish = EvaluationWish(
            model=model.raw,
            dataset=dataset.raw,
            price_cap=None if params.max_price is None else int(params.max_price),
            deadline_ms=params.deadline_ms,
        )

        async def work(_task: Task) -> object:
            found = await self._evaluations.evaluate(wish)
            infos = score_infos(self._models.view, model.raw)
            score = next(info for info in infos if info.dataset_cid == str(dataset))
            return api.Evaluation(params.model, score, tuple(map(address_text, found.workers)))

        subject = f"{params.model} on {params.dataset}"
        return self._models.tasks.start("evaluate", subject, work, tenant=caller.tenant)


def score_infos(view: View, model: bytes) -> tuple[api.ScoreInfo, ...]:
    """Scores of a manifest, by dataset."""
    return tuple(_info(view, score) for score in view.scores(model))


def _info(view: View, score: Score) -> api.ScoreInfo:
    release = view.release_by_cid(score.dataset)
    low, high = wilson(score.correct, score.total)
    return api.ScoreInfo(
        dataset="" if release is None else f"{release.name}@{release.semver}",
        dataset_cid=str(decode_cid(score.dataset)),
        correct=score.correct,
        total=score.total,
        accuracy_millionths=score.correct * MILLION // score.total,
        low_millionths=low,
        high_millionths=high,
        recorded=score.recorded,
        draws=score.draws,
        job_id=address_text(score.job),
        height=score.height,
    )
