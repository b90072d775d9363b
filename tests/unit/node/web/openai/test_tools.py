"""Tools by the client of the API: shown to the model, called by it, their answers sent back."""

from collections import deque
from pathlib import Path
from typing import Any

import msgspec
import openai
import pytest
import trio

from tests.tools.openai_door import PROMPT, a_part, open_v1
from tests.tools.rpc_door import OpenDoor

pytestmark = pytest.mark.filterwarnings(
    r"ignore:Exception ignored in. <async_generator object (Pool|Response|SSE|AsyncStream)"
)
HI: Any = [{"role": "user", "content": "Hi"}]
TOOLS: Any = [{"type": "function", "function": {"name": "add", "parameters": {}}}]
CALLS = 'Adding.<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>'


def calling_in_parts(door: OpenDoor) -> None:
    door.node.answers["model_getPrompt"] = msgspec.structs.replace(
        PROMPT, form="template", calls="hermes", stops=()
    )
    door.node.answers["infer_readTokens"] = deque(
        [
            a_part(CALLS[:15], is_over=False),
            a_part(CALLS[15:], is_over=False),
            a_part(CALLS[7:], is_over=True, finish="stop", tokens=9),
        ]
    )


async def test_calls_of_tools_are_the_clients_own_and_may_be_sent_back(tmp_path: Path) -> None:
    with trio.fail_after(30):
        async with open_v1(tmp_path) as door, a_client(door) as client:
            calling_in_parts(door)
            whole = await chat(client, tools=TOOLS)
            [choice] = whole.choices
            assert (choice.finish_reason, choice.message.content) == ("tool_calls", "Adding.")
            called = [(one.function.name, one.function.arguments) for one in whole_calls(choice)]
            assert called == [("add", '{"a":1}')] * 2
            assert len({one.id for one in whole_calls(choice)}) == 2
            asked = dict(door.node.calls)["model_getPrompt"]
            assert [tool.name for tool in asked.tools] == ["add"]

            calling_in_parts(door)
            back = choice.message.model_dump(exclude_none=True)
            gave = {"role": "tool", "tool_call_id": back["tool_calls"][0]["id"], "content": "3"}
            turns: Any = [*HI, back, gave]
            await client.chat.completions.create(model="net", messages=turns)
            turns = door.node.calls[-5][1].messages
            assert [turn.role for turn in turns] == ["user", "assistant", "tool"]
            assert [one.arguments for one in turns[1].tool_calls] == [{"a": 1}] * 2

            calling_in_parts(door)
            chunks = [one async for one in await chat(client, tools=TOOLS, stream=True)]
            told = [one.choices[0].delta.tool_calls or [] for one in chunks]
            assert [[part.index for part in parts] for parts in told if parts] == [[0], [1]]
            assert chunks[-1].choices[0].finish_reason == "tool_calls"
            assert "".join(one.choices[0].delta.content or "" for one in chunks) == "Adding."


def whole_calls(choice: Any) -> Any:  # noqa: ANN401 - the client's own
    return choice.message.tool_calls


def a_client(door: OpenDoor) -> openai.AsyncOpenAI:
    url = f"http://{door.bound.http}/v1"
    return openai.AsyncOpenAI(base_url=url, api_key=door.cookie)


async def chat(client: openai.AsyncOpenAI, **more: Any) -> Any:  # noqa: ANN401 - the client's own
    return await client.chat.completions.create(model="net", messages=HI, **more)
