"""A generation as the OpenAI API shows it: read part by part, cut at stop words, ended with it.

Knows: infer_generate and its reading. Must not know: HTTP, how tokens are chosen.
"""

import secrets
from collections.abc import Sequence
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
from prsm.node.web.openai.calls import Call, CallReader
from prsm.node.web.openai.forms import SEED_MAX, ChatRequest, CompletionRequest
from prsm.node.web.openai.stops import Cutter
from prsm.protocol.errors import PrsmError

READ_MS: Final = 10_000  # then a stream says that it is alive
TOKENS_DEFAULT: Final = 128
Finish = Literal["stop", "length", "tool_calls"]


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model goes on from.

    Attributes:
        model: name or CID.
        text: the prompt.
        stops: texts that end the answer.
        form: how a conversation was written; empty for a plain completion.
        lead: told before the answer.
        has_tools: may the answer call tools?
    """

    model: str
    text: str
    stops: tuple[str, ...]
    form: str = ""
    lead: str = ""
    has_tools: bool = False


def generate_params(
    wish: CompletionRequest | ChatRequest, prompt: Prompt, tokens_max: int | None, *, shares: int
) -> tuple[GenerateParams, ...]:
    """The node's own words for a wish, of each of the `n` answers to a prompt.

    Without a seed, one that the answer tells; later answers have the numbers after it. What may be
    locked is parted evenly.

    Args:
        wish: the request.
        prompt: one of its prompts.
        tokens_max: of each answer; None: `TOKENS_DEFAULT`.
        shares: answers to all prompts, which share the price.
    """
    options = wish.prsm
    seed = secrets.randbelow(2**32) if wish.seed is None else wish.seed
    cap = None if options.max_price is None else str(int(options.max_price) // shares)
    return tuple(
        GenerateParams(
            model=prompt.model,
            prompt=prompt.text,
            max_tokens=tokens_max or TOKENS_DEFAULT,
            temperature=round(wish.temperature * 1000),
            top_k=wish.top_k,
            top_p=max(1, round(wish.top_p * 1000)),
            seed=(seed + place) % (SEED_MAX + 1),
            stages=options.stages,
            home=options.home,
            local=options.local,
            spare=options.spare,
            max_price=cap,
            deadline_ms=options.deadline_ms,
        )
        for place in range(wish.n)
    )


class Telling:
    """One generation while its text is told.

    Invariants: nothing is told after the end; whoever leaves early calls `end`.

    Attributes:
        index: of the answer among those to the request.
        info: as last heard; None before `start`.
        is_over: nothing more is told.
        calls: of tools, as far as they are told.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        caller: Caller,
        prompt: Prompt,
        params: GenerateParams,
        *,
        index: int = 0,
    ) -> None:
        self._dispatcher, self._caller = dispatcher, caller
        self._cutter, self._lead = Cutter(prompt.stops), prompt.lead
        self._reader = CallReader() if prompt.has_tools else None
        self.prompt, self.params, self.index = prompt, params, index
        self.info: GenerationInfo | None = None
        self.is_over = False

    async def start(self) -> None:
        """Begin.

        Raises:
            PrsmError: it is refused.
        """
        self.info = await self._call("infer_generate", self.params)

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
        if self._reader is not None:
            text = self._reader.feed(text) + (self._reader.end() if self.is_over else "")
        lead, self._lead = self._lead, ""
        return lead + text

    async def end(self) -> None:
        """Let its stages stop; what was done is paid. Nothing if it is over."""
        if self.info is None or self.info.is_over:
            return
        with suppress(PrsmError):  # it ended by itself, and was forgotten
            params = GenerationParams(self.info.generation_id)
            self.info = await self._patiently("infer_endGeneration", params)

    @property
    def calls(self) -> Sequence[Call]:
        """Calls of tools so far, in their order."""
        return () if self._reader is None else self._reader.calls

    @property
    def finish(self) -> Finish:
        """Why the text ended."""
        assert self.info is not None
        if not self._cutter.is_cut and self.info.finish != "stop":
            return "length"
        return "tool_calls" if self.calls else "stop"

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
