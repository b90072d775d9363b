"""model_ of evaluation: how often a model is right on a registered dataset."""

from typing import Annotated, Final

import msgspec

from prsm.node.rpc.methods.tasks import TaskInfo
from prsm.node.rpc.spec import (
    AmountText,
    CidText,
    Count,
    Hex32,
    JobIdText,
    Method,
    Params,
    RefText,
    Result,
    Scope,
    TaskIdText,
)

_Millionths = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]


class ScoreInfo(Result, frozen=True):
    """What evaluations of a model on a dataset found, as the ledger has it.

    The interval is Wilson's of 95 %. `draws` counts how often evaluators were asked for: many more
    than `recorded` is a publisher who looks for kind ones.
    """

    dataset: str  # name@version
    dataset_cid: CidText
    correct: Count
    total: Count
    accuracy_millionths: _Millionths
    low_millionths: _Millionths
    high_millionths: _Millionths
    recorded: Count
    draws: Count
    job_id: JobIdText  # of the last one
    height: Count


class EvaluateParams(Params, frozen=True):
    """Let workers that are drawn evaluate a model on a dataset."""

    model: RefText
    dataset: RefText
    max_price: Annotated[
        AmountText | None, msgspec.Meta(description="most micro-FTNS to lock; refused above")
    ] = None
    deadline_ms: Annotated[
        int, msgspec.Meta(ge=1_000, le=86_400_000, description="settled or refunded by then")
    ] = 600_000
    task: Annotated[
        TaskIdText | None, msgspec.Meta(description="answer with the result of this task")
    ] = None


class Evaluation(Result, frozen=True):
    """An evaluation that was recorded, and the score as it is now."""

    model: str
    score: ScoreInfo
    workers: tuple[Hex32, ...]  # who hold the settled roots


class ScoresParams(Params, frozen=True):
    """Which model."""

    ref: RefText


class Scores(Result, frozen=True):
    """Scores of a model, by dataset."""

    model: str
    items: tuple[ScoreInfo, ...]


METHODS: Final = (
    Method(
        "model_evaluate",
        EvaluateParams,
        Evaluation,
        Scope.WRITE,
        "Accuracy of a model on a dataset, counted by workers that are drawn.",
        words=("model", "evaluate"),
        positional=("model", "dataset"),
        deadline_ms=600_000,
        example=EvaluateParams("digits@1.0.0", "digits-test@1.0.0"),
    ),
    Method(
        "model_startEvaluate",
        EvaluateParams,
        TaskInfo,
        Scope.WRITE,
        "As model_evaluate, but answers with the task at once.",
        example=EvaluateParams("digits@1.0.0", "digits-test@1.0.0"),
    ),
    Method(
        "model_listScores",
        ScoresParams,
        Scores,
        Scope.READ,
        "Scores of a model on the ledger, with their intervals.",
        words=("model", "scores"),
        positional=("ref",),
        example=ScoresParams("digits@1.0.0"),
    ),
)
