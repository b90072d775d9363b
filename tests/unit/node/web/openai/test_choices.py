"""Several answers to one request: each told whole, each with its own seed, all ended together."""

from collections import Counter
from pathlib import Path
from typing import Any

import openai
import pytest
import trio

from prsm.node.inference.generate.generation import ReaderTooSlow
from prsm.node.net.interface import Busy
from prsm.node.rpc.methods.generation import (
    GenerateParams,
    GenerationInfo,
    GenerationParams,
    ReadTokensParams,
)
from prsm.node.rpc.spec import Caller, Params
from prsm.protocol.errors import PrsmError
from tests.tools.openai_door import a_part, open_v1

pytestmark = pytest.mark.filterwarnings(
    r"ignore:Exception ignored in. <async_generator object (Pool|Response|SSE|AsyncStream)"
)
HI: Any = [{"role": "user", "content": "Hi"}]


class Texts:
    """A fake of generations: each tells its prompt and its seed, a word a reading."""

    def __init__(self, *, failing: int | None = None, refused_from: int = 99) -> None:
        self.asked: list[GenerateParams] = []
        self.ended: list[int] = []
        self._reads: Counter[int] = Counter()
        self._failing, self._refused_from = failing, refused_from

    async def generate(self, params: Params, _caller: Caller) -> GenerationInfo:
        await trio.lowlevel.checkpoint()
        assert isinstance(params, GenerateParams)
        if len(self.asked) >= self._refused_from:
            raise Busy("no room", retry_after_ms=1)
        self.asked.append(params)
        return self._part(len(self.asked) - 1, "", is_over=False)

    async def read(self, params: Params, _caller: Caller) -> GenerationInfo:
        await trio.lowlevel.checkpoint()
        assert isinstance(params, ReadTokensParams)
        place = int(params.generation_id, 16)
        self._reads[place] += 1
        count, words = self._reads[place], self.words(place)
        if place == self._failing and count == 2:
            error: PrsmError = ReaderTooSlow("gone")
            raise error
        return self._part(place, words[count - 1], is_over=count == len(words), finish="stop")

    async def end(self, params: Params, _caller: Caller) -> GenerationInfo:
        await trio.lowlevel.checkpoint()
        assert isinstance(params, GenerationParams)
        self.ended.append(int(params.generation_id, 16))
        return self._part(self.ended[-1], "", is_over=True)

    def words(self, place: int) -> list[str]:
        asked = self.asked[place]
        return [f"{asked.prompt}|", f"{asked.seed}|", *["more|"] * place, "done"]

    def text(self, place: int) -> str:
        return "".join(self.words(place))

    def _part(self, place: int, text: str, **more: object) -> GenerationInfo:
        key = f"0x{place:064x}"
        count = self._reads[place]
        return a_part(text, generation_id=key, jobs=(key,), tokens=count, **more)


class Asking:
    """A client of the pages over such generations."""

    def __init__(self, folder: Path, texts: Texts) -> None:
        self._folder, self._texts = folder, texts

    async def run(self, ask: Any) -> Any:  # noqa: ANN401 - what the client answers
        texts = self._texts
        handlers = {
            "infer_generate": texts.generate,
            "infer_readTokens": texts.read,
            "infer_endGeneration": texts.end,
        }
        with trio.fail_after(30):
            async with open_v1(self._folder, handlers) as door:
                url = f"http://{door.bound.http}/v1"
                async with openai.AsyncOpenAI(
                    base_url=url, api_key=door.cookie, max_retries=0
                ) as client:
                    return await ask(client)


async def test_answers_to_one_prompt_have_successive_seeds_and_share_the_price(
    tmp_path: Path,
) -> None:
    texts = Texts()

    async def ask(client: openai.AsyncOpenAI) -> Any:  # noqa: ANN401 - the client's own
        extra: Any = {"prsm": {"max_price": "100"}}
        return await client.chat.completions.create(
            model="net", messages=HI, n=3, seed=7, extra_body=extra
        )

    whole = await Asking(tmp_path, texts).run(ask)
    assert [one.message.content for one in whole.choices] == [texts.text(i) for i in range(3)]
    assert [(one.index, one.finish_reason) for one in whole.choices] == [
        (place, "stop") for place in range(3)
    ]
    assert [(one.seed, one.max_price) for one in texts.asked] == [(7, "33"), (8, "33"), (9, "33")]
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (3, 3 + 4 + 5)
    told = whole.model_extra["prsm"]
    assert (len(told["jobs"]), told["price"], told["seed"]) == (3, "360", 7)
    assert [one["seed"] for one in told["choices"]] == [7, 8, 9]


async def test_streamed_answers_are_told_by_their_index_and_only_the_last_part_has_the_bill(
    tmp_path: Path,
) -> None:
    texts = Texts()

    async def ask(client: openai.AsyncOpenAI) -> Any:  # noqa: ANN401 - the client's own
        stream = await client.chat.completions.create(model="net", messages=HI, n=3, stream=True)
        return [chunk async for chunk in stream]

    chunks = [chunk for chunk in await Asking(tmp_path, texts).run(ask) if chunk.choices]
    for place in range(3):
        own = [one.choices[0] for one in chunks if one.choices[0].index == place]
        assert "".join(one.delta.content or "" for one in own) == texts.text(place)
        assert [one.delta.role for one in own] == ["assistant", *[None] * (len(own) - 1)]
        assert [one.finish_reason for one in own] == [*[None] * (len(own) - 1), "stop"]
    billed = ["prsm" in (one.model_extra or {}) for one in chunks]
    assert billed == [*[False] * (len(chunks) - 1), True]


@pytest.mark.parametrize("second", ["Then", "Once"])
async def test_prompts_are_answered_in_their_order_each_after_its_echo(
    tmp_path: Path, second: str
) -> None:
    texts = Texts()

    async def ask(client: openai.AsyncOpenAI) -> Any:  # noqa: ANN401 - the client's own
        return await client.completions.create(
            model="net", prompt=["Once", second], n=2, seed=1, echo=True
        )

    whole = await Asking(tmp_path, texts).run(ask)
    prompts = ["Once", "Once", second, second]
    assert [one.text for one in whole.choices] == [
        prompt + texts.text(place) for place, prompt in enumerate(prompts)
    ]
    assert [one.seed for one in texts.asked] == [1, 2, 1, 2]
    assert whole.usage.prompt_tokens == 3 + 3


@pytest.mark.parametrize("stream", [False, True])
async def test_failure_of_one_answer_ends_the_others(tmp_path: Path, stream: bool) -> None:
    texts = Texts(failing=0)

    async def ask(client: openai.AsyncOpenAI) -> None:
        async def everything() -> None:
            found: Any = await client.chat.completions.create(
                model="net", messages=HI, n=3, stream=stream
            )
            async for _ in found:
                pass

        with pytest.raises(openai.APIError) as caught:
            await everything()
        assert caught.value.code == "reader_too_slow"

    await Asking(tmp_path, texts).run(ask)
    assert set(texts.ended) >= {1, 2}


async def test_answers_that_had_begun_are_ended_when_a_later_one_is_refused(
    tmp_path: Path,
) -> None:
    texts = Texts(refused_from=2)

    async def ask(client: openai.AsyncOpenAI) -> None:
        with pytest.raises(openai.RateLimitError):
            await client.chat.completions.create(model="net", messages=HI, n=3)

    await Asking(tmp_path, texts).run(ask)
    assert texts.ended == [0, 1]
