"""The OpenAI API over workers that generate: what its client reads is what the model chose.

The workers, their locks and the ledger are those of the memory network; HTTP and client are real.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import openai
import pytest
import trio

from prsm.node.api.generation import GenerationApi
from prsm.node.rpc.methods.chat import PromptText
from prsm.storage.cid import decode_cid
from tests.tools.generating import Maker, Makers, make_makers, text_of, tokens_of
from tests.tools.openai_door import PROMPT, open_v1
from tests.tools.work import MODEL

# The client leaves its own generators to the garbage collector at the end of a stream.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        r"ignore:Exception ignored in. <async_generator object (Pool|Response|SSE|AsyncStream)"
    ),
]
COUNT = 24
HI: Any = [{"role": "user", "content": "Hi"}]


class OneName:
    """The room of models, of one name."""

    async def find(self, _ref: str) -> SimpleNamespace:
        await trio.lowlevel.checkpoint()
        return SimpleNamespace(cid=decode_cid(MODEL))


@dataclass
class Desk:
    """A client, and the node it asks."""

    client: openai.AsyncOpenAI
    maker: Maker

    async def chat(self, **more: Any) -> Any:  # noqa: ANN401 - the client's own
        options = {"prsm": {"stages": 2}, "temperature": 0, "seed": 0}
        return await self.client.chat.completions.create(
            model="adding", messages=HI, max_completion_tokens=COUNT, extra_body=options, **more
        )


@asynccontextmanager
async def open_desk(folder: Path) -> AsyncIterator[Desk]:
    async with trio.open_nursery() as nursery:
        makers: Makers = make_makers()
        makers.cluster.world.block_s = 0.02
        await makers.start(nursery)
        maker = makers.makers[0]
        api = GenerationApi(OneName(), maker.generations)  # type: ignore[arg-type]  # it only finds
        async with open_v1(folder, api.handlers()) as door:
            door.node.answers["model_getPrompt"] = PromptText(
                str(decode_cid(MODEL)), "plain", PROMPT.prompt, ()
            )
            url = f"http://{door.bound.http}/v1"
            async with openai.AsyncOpenAI(base_url=url, api_key=door.cookie) as client:
                yield Desk(client, maker)
        nursery.cancel_scope.cancel()


async def test_text_of_two_workers_streamed_and_whole_is_what_the_model_chose(
    tmp_path: Path,
) -> None:
    due = text_of(tokens_of(PROMPT.prompt, COUNT))
    with trio.fail_after(60):
        async with open_desk(tmp_path) as desk:
            chunks = [chunk async for chunk in await desk.chat(stream=True)]
            assert "".join(one.choices[0].delta.content or "" for one in chunks) == due
            assert chunks[-1].choices[0].finish_reason == "length"
            told = chunks[-1].model_extra["prsm"]
            assert len(told["jobs"]) == len(told["peers"]) == 2
            assert told["proof"] == f"/v1/proofs/{told['job_id']}"

            whole = await desk.chat()
            assert whole.choices[0].message.content == due
            usage = (whole.usage.prompt_tokens, whole.usage.completion_tokens)
            assert usage == (len(PROMPT.prompt), COUNT)

            cut = await desk.chat(stop=due[9:12])
            assert cut.choices[0].message.content == due[: due.index(due[9:12])]
            assert cut.choices[0].finish_reason == "stop"
