"""Parameters of the OpenAI API are taken, change nothing, or are refused by their name."""

import json
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prsm.node.rpc.errors import BadParams, CallError, ParseFailed
from prsm.node.rpc.methods.chat import ChatMessage, Tool, ToolCall
from prsm.node.web.openai.faults import ParameterUnsupported
from prsm.node.web.openai.forms import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    read_request,
)
from prsm.node.web.openai.tools import messages_of, tools_of

TOOL = {
    "type": "function",
    "function": {"name": "add", "description": "adds", "parameters": {"type": "object"}},
}
CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
ASKED = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


def read(**more: object) -> ChatRequest:
    return read_request(json.dumps({**ASKED, **more}).encode(), ChatRequest)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("logprobs", True),
        ("top_logprobs", 3),
        ("tool_choice", {"type": "function"}),
        ("tool_choice", "required"),
        ("presence_penalty", 0.5),
        ("frequency_penalty", -1),
        ("logit_bias", {"1": 2}),
        ("response_format", {"type": "json_object"}),
        ("reasoning_effort", "high"),
        ("store", True),
        ("audio", {}),
    ],
)
def test_what_would_change_the_answer_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ParameterUnsupported, match=name) as caught:
        read(**{name: value})
    assert caught.value.field == name


@pytest.mark.parametrize("value", [0, 1, 5, True])
def test_logprobs_of_a_completion_are_never_left_out_in_silence(value: object) -> None:
    """0 asks for those of the chosen tokens alone; to Python it is False, which asks for none."""
    asked = {"model": "m", "prompt": "Hi", "logprobs": value}
    with pytest.raises(ParameterUnsupported, match="logprobs is not supported") as caught:
        read_request(json.dumps(asked).encode(), CompletionRequest)
    assert (caught.value.field, "how likely" in caught.value.hint) == ("logprobs", True)


def test_what_is_done_anyway_is_taken() -> None:
    neutral = {"n": 1, "tools": [], "tool_choice": "auto", "presence_penalty": 0.0, "user": "u-1"}
    asked = read(**neutral, logprobs=False, stop=None, response_format={"type": "text"})
    assert asked == read()
    assert (asked.temperature, asked.max_tokens, asked.stops) == (1.0, None, ())
    assert read(stop="a").stops == ("a",)
    assert read(stop=["a", "b"]).stops == ("a", "b")


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"temprature": 1}, "temprature"),
        ({"temperature": 3}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"stop": ""}, "stop"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"n": 0}, "n"),
        ({"n": 9}, "n"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0]"),
        ({"messages": [{"role": "function", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0]"),
        ({"messages": [{"role": "assistant", "content": None}]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": "x", "tool_call_id": "1"}]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": "x", "tool_calls": [CALL]}]}, "messages[0]"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        ({"tools": [TOOL] * 65}, "tools"),
        ({"prsm": {"price": "1"}}, "prsm"),
        ({"prsm": {"max_price": "1.5"}}, "prsm.max_price"),
        ({"stream_options": {"x": 1}}, "stream_options"),
    ],
)
def test_what_is_wrong_is_named(more: dict[str, object], field: str) -> None:
    with pytest.raises(BadParams) as caught:
        read(**more)
    assert caught.value.field == field


def test_slip_of_the_pen_gets_the_nearest_name() -> None:
    with pytest.raises(BadParams) as caught:
        read(temprature=1)
    assert "'temperature'" in caught.value.hint


def test_content_in_parts_is_one_text_and_other_kinds_are_refused() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert read(messages=[{"role": "user", "content": parts}]).messages[0].text == "ab"
    image = [{"type": "image_url", "image_url": {"url": "x"}}]
    with pytest.raises(CallError, match="messages"):
        read(messages=[{"role": "user", "content": image}])


def test_earlier_answer_sent_back_as_it_came_is_taken() -> None:
    empty = {"refusal": None, "annotations": None, "audio": None, "tool_calls": None}
    back = {"role": "assistant", "content": "a", "function_call": None, **empty}
    assert read(messages=[back]).messages[0].text == "a"
    with pytest.raises(ParameterUnsupported, match=r"messages\[0\].audio"):
        read(messages=[{**back, "audio": {"id": "1"}}])
    calls = read(messages=[{**back, "content": None, "tool_calls": [CALL]}])
    [turn] = messages_of(calls)
    assert (turn.content, turn.tool_calls) == ("", (ToolCall("c1", "add", {"a": 1}),))
    gave = {"role": "tool", "tool_call_id": "c1", "content": "3"}
    assert messages_of(read(messages=[gave])) == (ChatMessage("tool", "3", (), "c1"),)


@pytest.mark.parametrize("arguments", ["{", "[]", "1", "[" * 5000, '"\\ud800"'])
def test_arguments_of_an_earlier_call_that_are_no_object_are_refused(arguments: str) -> None:
    call = {**CALL, "function": {"name": "add", "arguments": arguments}}
    with pytest.raises(BadParams) as caught:
        messages_of(read(messages=[{"role": "assistant", "tool_calls": [call]}]))
    assert caught.value.field == "messages[0].tool_calls"


def test_tools_are_shown_unless_none_may_be_called() -> None:
    assert tools_of(read(tools=[TOOL])) == (Tool("add", "adds", {"type": "object"}),)
    assert tools_of(read(tools=[TOOL], tool_choice="none", parallel_tool_calls=False)) == ()
    strict = {"type": "function", "function": {"name": "add", "strict": True}}
    for more, field in (
        ({"tools": [TOOL], "parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"tools": [TOOL, strict]}, "tools[1].function.strict"),
    ):
        with pytest.raises(ParameterUnsupported) as caught:
            tools_of(read(**more))
        assert caught.value.field == field


def test_prompts_and_inputs_are_texts_not_tokens() -> None:
    asked = read_request(b'{"model":"m","prompt":["a","b"],"best_of":1}', CompletionRequest)
    assert asked.texts == ("a", "b")
    for prompt in ("[1,2]", json.dumps(["a"] * 9), "[]", '""', '[""]'):
        with pytest.raises(BadParams, match="prompt"):
            read_request(b'{"model":"m","prompt":' + prompt.encode() + b"}", CompletionRequest)
    texts = read_request(b'{"model":"m","input":["a","b"]}', EmbeddingRequest).texts
    assert texts == ("a", "b")
    with pytest.raises(ParameterUnsupported, match="dimensions"):
        read_request(b'{"model":"m","input":"a","dimensions":8}', EmbeddingRequest)
    for rows in ("[1,2]", "[]", "[[1]]", json.dumps(["a"] * 257)):
        with pytest.raises(BadParams, match="input"):
            read_request(b'{"model":"m","input":' + rows.encode() + b"}", EmbeddingRequest)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=9),
    lambda more: (
        st.lists(more, max_size=3) | st.dictionaries(st.text(max_size=9), more, max_size=3)
    ),
    max_leaves=8,
)
SHAPES = (ChatRequest, CompletionRequest, EmbeddingRequest)
NAMES = sorted({name for shape in SHAPES for name in shape.__struct_fields__} | {"n", "user"})


@settings(max_examples=50)
@given(st.sampled_from(SHAPES), st.dictionaries(st.sampled_from(NAMES), JSON, max_size=5))
def test_any_json_is_taken_or_refused_by_a_typed_error(
    shape: type[ChatRequest | CompletionRequest | EmbeddingRequest], more: dict[str, object]
) -> None:
    good = {"prompt": "p", "input": "i", **ASKED}
    least = {name: good[name] for name in shape.__struct_fields__ if name in good}
    with suppress(CallError):
        read_request(json.dumps({**least, **more}).encode(), shape)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b'"x"', b"[" * 5000])
def test_what_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(ParseFailed):
        read_request(body, ChatRequest)
