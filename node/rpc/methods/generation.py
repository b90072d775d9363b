"""infer_generate and its reading: text that comes token by token."""

from typing import Annotated, Final, Literal

import msgspec

from prsm.node.rpc.spec import (
    AmountText,
    Count,
    Hex32,
    Method,
    Params,
    RefText,
    Result,
    Scope,
    WaitMs,
)
from prsm.protocol.limits import WORK_STAGES_MAX

_EXAMPLE: Final = "0x" + "00" * 32


class GenerateParams(Params, frozen=True):
    """Go on from a prompt; `temperature` and `top_p` are thousandths.

    With `local` this node does all of it, and nothing is locked; with `home` its first stages.
    """

    model: RefText
    prompt: Annotated[str, msgspec.Meta(min_length=1, max_length=1_048_576)]
    max_tokens: Annotated[int, msgspec.Meta(ge=1, le=65_536)] = 128
    temperature: Annotated[
        int, msgspec.Meta(ge=0, le=100_000, description="thousandths; 0: the most likely token")
    ] = 0
    top_k: Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1, description="0: all")] = 0
    top_p: Annotated[int, msgspec.Meta(ge=1, le=1000, description="thousandths")] = 1000
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = 0
    stages: Annotated[int, msgspec.Meta(ge=1, le=WORK_STAGES_MAX)] = 1
    home: Annotated[
        int, msgspec.Meta(ge=0, le=WORK_STAGES_MAX, description="first stages done here")
    ] = 0
    local: bool = False
    spare: Annotated[
        bool, msgspec.Meta(description="lock a second route, for a stage that is lost")
    ] = True
    replay: Literal["steps", "prefill"] = "steps"
    max_price: Annotated[
        AmountText | None, msgspec.Meta(description="most micro-FTNS to lock; refused above")
    ] = None
    deadline_ms: Annotated[
        int, msgspec.Meta(ge=1_000, le=86_400_000, description="settled or refunded by then")
    ] = 600_000


class RecoveryInfo(Result, frozen=True):
    """A stage that was lost and taken over in mid-generation."""

    stage: Count
    lost: str
    taken_by: str
    why: str
    positions: Count  # replayed
    load_ms: Count
    replay_ms: Count
    lost_ms: Count


class GenerationInfo(Result, frozen=True):
    """A generation: `text` is what came since the last reading, whole characters only.

    `finish` once the text is complete: `stop` the model ended it, `length` it has as many tokens
    as allowed, `context` the model has no more positions.
    """

    generation_id: Hex32
    state: Literal["opening", "running", "settling", "done", "failed"]
    text: str
    is_over: bool
    finish: Literal["stop", "length", "context"] | None
    prompt_tokens: Count
    tokens: Count
    opened_ms: Count  # plan, lock and loading
    first_token_ms: Count
    tokens_ms: Count  # from the first token to the last
    locked: AmountText
    jobs: tuple[Hex32, ...]
    stages: tuple[str, ...]  # who does each now: a peer id, or home
    recoveries: tuple[RecoveryInfo, ...]


class GenerationStep(Result, frozen=True):
    """A part of a generation: of the whole, or of one stage at one worker.

    `plan`, `lock`, `run`, `receipt`, `settle` are the generation's; `open` (its shard is loaded)
    and `work` (first step asked for to last answered) are those of `stage` at `peer`, one pair for
    each that was asked; `why` it was lost, where it was.
    """

    step: Literal["plan", "lock", "open", "work", "run", "receipt", "settle"]
    began_ms: Count  # since it was asked for
    ended_ms: Count | None  # null while it lasts
    stage: Count | None = None
    peer: str = ""  # a peer id, or home
    why: str = ""


class GenerationTrace(Result, frozen=True):
    """When each step of a generation began and ended, in the order they began."""

    generation_id: Hex32
    state: Literal["opening", "running", "settling", "done", "failed"]
    is_over: bool
    jobs: tuple[Hex32, ...]
    steps: tuple[GenerationStep, ...]


class ReadTokensParams(Params, frozen=True):
    """Which generation; the answer comes when there is text, when it ends, or then."""

    generation_id: Hex32
    wait_ms: WaitMs = 0


class GenerationParams(Params, frozen=True):
    """Which generation."""

    generation_id: Hex32


METHODS: Final = (
    Method(
        "infer_generate",
        GenerateParams,
        GenerationInfo,
        Scope.WRITE,
        "Go on from a prompt over several peers; read the text with infer_readTokens.",
        deadline_ms=30_000,
        example=GenerateParams("tiny-gpt@1.0.0", "Once upon a time"),
    ),
    Method(
        "infer_readTokens",
        ReadTokensParams,
        GenerationInfo,
        Scope.WRITE,
        "Text since the last reading; a generation nobody reads for 30 s is ended.",
        deadline_ms=70_000,
        example=ReadTokensParams(_EXAMPLE),
    ),
    Method(
        "infer_getTrace",
        GenerationParams,
        GenerationTrace,
        Scope.READ,
        "When each step of a generation began and ended, by stage and worker.",
        words=("generation", "trace"),
        positional=("generation_id",),
        example=GenerationParams(_EXAMPLE),
    ),
    Method(
        "infer_endGeneration",
        GenerationParams,
        GenerationInfo,
        Scope.WRITE,
        "End a generation; its stages stop at once.",
        words=("generation", "end"),
        positional=("generation_id",),
        example=GenerationParams(_EXAMPLE),
    ),
)
