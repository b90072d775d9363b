"""Handlers of infer_generate, infer_readTokens and infer_endGeneration.

Knows: models and generations. Must not know: transports, how tokens are chosen.
"""

from typing import Literal

from prsm.node.inference.generate.course import Replay, Sitting
from prsm.node.inference.generate.generation import GenerateRequest, Generation, StepName
from prsm.node.inference.generate.service import Generations
from prsm.node.inference.unitrun import Lapse
from prsm.node.models import Models
from prsm.node.rpc.dispatch import Handler
from prsm.node.rpc.methods import generation as api
from prsm.node.rpc.spec import Caller
from prsm.protocol.generating import Sampling
from prsm.protocol.ids import address_text, parse_hex
from prsm.protocol.messages.pipe import InputMismatch

_StepName = StepName | Literal["open", "work"]


class GenerationApi:
    """Answers about generations."""

    def __init__(self, models: Models, generations: Generations) -> None:
        self._models = models
        self._generations = generations

    def handlers(self) -> dict[str, Handler]:
        """Method name -> handler."""
        return {
            "infer_generate": self.generate,
            "infer_readTokens": self.read,
            "infer_getTrace": self.trace,
            "infer_endGeneration": self.end,
        }

    async def generate(self, params: api.GenerateParams, _caller: Caller) -> api.GenerationInfo:
        """Start a generation; it is opened and at work while the caller begins to read."""
        known = await self._models.find(params.model)
        home = params.stages if params.local else params.home
        if home > params.stages:
            raise InputMismatch(
                f"{home} stages at home, the model is asked for in {params.stages}",
                hint="give fewer with --home, or more with --stages",
            )
        started = self._generations.start(
            GenerateRequest(
                model=known.cid.raw,
                prompt=params.prompt,
                tokens_max=params.max_tokens,
                sampling=Sampling(params.temperature, params.top_k, params.top_p, params.seed),
                stages=params.stages,
                home=home,
                price_cap=None if params.max_price is None else int(params.max_price),
                deadline_ms=params.deadline_ms,
                replay=Replay(params.replay),
                has_spare=params.spare,
            )
        )
        return self._info(started, "")

    async def read(self, params: api.ReadTokensParams, _caller: Caller) -> api.GenerationInfo:
        """Text since the last reading."""
        name = _id(params.generation_id)
        part = await self._generations.read(name, wait_ms=params.wait_ms)
        return self._info(name, part.text)

    async def trace(self, params: api.GenerationParams, _caller: Caller) -> api.GenerationTrace:
        """When each step of a generation began and ended."""
        one = self._generations.get(_id(params.generation_id))
        steps = [
            *(_step(one, name, lapse) for name, lapse in one.lapses.items()),
            *(_step(one, "open", sat.opening, sat) for sat in one.sittings),
            *(
                _step(one, "work", sat.work, sat)
                for sat in one.sittings
                if sat.work.began_s is not None
            ),
        ]
        return api.GenerationTrace(
            generation_id=address_text(one.id),
            state=one.state.value,
            is_over=one.is_over,
            jobs=tuple(address_text(job) for job in one.jobs),
            steps=tuple(sorted(steps, key=lambda step: step.began_ms)),
        )

    async def end(self, params: api.GenerationParams, _caller: Caller) -> api.GenerationInfo:
        """End a generation."""
        name = _id(params.generation_id)
        self._generations.cancel(name)
        return self._info(name, "")

    def _info(self, name: bytes, text: str) -> api.GenerationInfo:
        one = self._generations.get(name)
        return api.GenerationInfo(
            generation_id=address_text(one.id),
            state=one.state.value,
            text=text,
            is_over=one.is_over,
            finish=one.finish,
            prompt_tokens=one.prompt_tokens,
            tokens=len(one.tokens),
            opened_ms=one.opened_ms,
            first_token_ms=one.first_token_ms,
            tokens_ms=one.tokens_ms,
            locked=str(one.locked),
            jobs=tuple(address_text(job) for job in one.jobs),
            stages=tuple(one.stages),
            recoveries=tuple(
                api.RecoveryInfo(
                    stage=each.stage,
                    lost=each.lost,
                    taken_by=each.taken_by,
                    why=each.why,
                    positions=each.positions,
                    load_ms=each.load_ms,
                    replay_ms=each.replay_ms,
                    lost_ms=each.lost_ms,
                )
                for each in one.recoveries
            ),
        )


def _step(
    one: Generation, name: _StepName, lapse: Lapse, sat: Sitting | None = None
) -> api.GenerationStep:
    assert lapse.began_s is not None, "a lapse is noted as it begins"
    ended_s = lapse.ended_s
    return api.GenerationStep(
        step=name,
        began_ms=round((lapse.began_s - one.made_s) * 1000),
        ended_ms=None if ended_s is None else round((ended_s - one.made_s) * 1000),
        stage=None if sat is None else sat.stage,
        peer="" if sat is None else sat.name,
        why="" if sat is None else sat.why,
    )


def _id(text: str) -> bytes:
    return parse_hex(text, size=32, what="generation id")
