"""A generation as the OpenAI API shows it: read part by part, cut at stop words, ended with it.

Knows: infer_generate and its reading. Must not know: HTTP, how tokens are chosen.
"""

import secrets
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal

import trio

from prsm.node.rpc.dispatch import Dispatcher
from prsm.node.rpc.errors import TooMany
from prsm.node.rpc.methods.generation import (
    GenerateParams,
    GenerationInfo,
    GenerationParams,
    ReadTokensParams,
)
from prsm.node.rpc.spec import Caller, Params
from prsm.node.web.openai.forms import ChatRequest, CompletionRequest
from prsm.node.web.openai.stops import Cutter
from prsm.protocol.errors import PrsmError

READ_MS: Final = 10_000  # then a stream says that it is alive
TOKENS_DEFAULT: Final = 128
END_S: Final = 5.0  # for what is done when a client has gone
Finish = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model goes on from.

    Attributes:
        model: name or CID.
        text: the prompt.
        stops: texts that end the answer.
        form: how a conversation was written; empty for a plain completion.
    """

    model: str
    text: str
    stops: tuple[str, ...]
    form: str = ""


def generate_params(
    wish: CompletionRequest | ChatRequest, prompt: Prompt, tokens_max: int | None
) -> GenerateParams:
    """The node's own words for a wish; without a seed, one that the answer tells."""
    options = wish.prsm
    return GenerateParams(
        model=prompt.model,
        prompt=prompt.text,
        max_tokens=tokens_max or TOKENS_DEFAULT,
        temperature=round(wish.temperature * 1000),
        top_k=wish.top_k,
        top_p=max(1, round(wish.top_p * 1000)),
        seed=secrets.randbits(32) if wish.seed is None else wish.seed,
        stages=options.stages,
        home=options.home,
        local=options.local,
        spare=options.spare,
        max_price=options.max_price,
        deadline_ms=options.deadline_ms,
    )


class Telling:
    """One generation while its text is told.

    Invariants: nothing is told after the end; whoever leaves early calls `end`.
    """

    def __init__(self, dispatcher: Dispatcher, caller: Caller, stops: tuple[str, ...]) -> None:
        self._dispatcher, self._caller = dispatcher, caller
        self._cutter = Cutter(stops)
        self.info: GenerationInfo | None = None
        self.is_over = False

    async def start(self, params: GenerateParams) -> None:
        """Begin.

        Raises:
            PrsmError: it is refused.
        """
        self.info = await self._call("infer_generate", params)

    async def read(self) -> str:
        """What may be told now; empty after a while without news, or at the end.

        Raises:
            PrsmError: why the generation failed.
        """
        assert self.info is not None
        params = ReadTokensParams(self.info.generation_id, READ_MS)
        self.info = await self._patiently("infer_readTokens", params)
        text = self._cutter.feed(self.info.text)
        if self._cutter.is_cut:
            self.is_over = True
            await self.end()
        elif self.info.is_over:
            self.is_over = True
            text += self._cutter.end()
        return text

    async def end(self) -> None:
        """Let its stages stop; what was done is paid. Nothing if it is over."""
        if self.info is None or self.info.is_over:
            return
        with suppress(PrsmError):  # it ended by itself, and was forgotten
            params = GenerationParams(self.info.generation_id)
            self.info = await self._patiently("infer_endGeneration", params)

    @property
    def finish(self) -> Finish:
        """Why the text ended."""
        assert self.info is not None
        return "stop" if self._cutter.is_cut or self.info.finish == "stop" else "length"

    @property
    def usage(self) -> dict[str, int]:
        """Tokens of prompt and answer."""
        assert self.info is not None
        before, after = self.info.prompt_tokens, self.info.tokens
        return {
            "prompt_tokens": before,
            "completion_tokens": after,
            "total_tokens": before + after,
        }

    async def _patiently(self, method: str, params: Params) -> GenerationInfo:
        """Call when the caller may again: one text is many calls, and a quota slows it only."""
        while True:
            try:
                return await self._call(method, params)
            except TooMany as error:
                if not error.retry_after_ms:
                    raise
                await trio.sleep(error.retry_after_ms / 1000)

    async def _call(self, method: str, params: Params) -> GenerationInfo:
        found = await self._dispatcher.call(method, params, self._caller)
        assert isinstance(found, GenerationInfo)
        return found
