"""Calls of tools are told apart from the text, however it comes in parts; nothing said is lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prsm.node.web.openai.calls import Call, CallReader

ONE = '<tool_call>\n{"name": "add", "arguments": {"a": [1, "é"]}}\n</tool_call>'
ADD = Call("add", '{"a":[1,"é"]}')


def told(*parts: str) -> tuple[str, list[Call]]:
    reader = CallReader()
    text = "".join([*map(reader.feed, parts), reader.end()])
    return text, reader.calls


@pytest.mark.parametrize(
    ("said", "text", "count"),
    [
        (ONE, "", 1),
        (f"I add.\n{ONE}{ONE}", "I add.\n", 2),
        (f"a{ONE}b{ONE}c", "abc", 2),
        (ONE.removesuffix("</tool_call>"), "", 1),  # ended by a token that is not told
        ("a <tool", "a <tool", 0),
        ("<tool_call>junk</tool_call>", "<tool_call>junk</tool_call>", 0),
        (f"<tool_call>[1]</tool_call>{ONE}", "<tool_call>[1]</tool_call>", 1),
        ('<tool_call>{"name": "add"', '<tool_call>{"name": "add"', 0),
        ('<tool_call>{"name": 1, "arguments": {}}</tool_call>', None, 0),
        ("<tool_call>" + "[" * 5000 + "</tool_call>", None, 0),
        ("</tool_call>", "</tool_call>", 0),
    ],
)
def test_calls_and_text(said: str, text: str | None, count: int) -> None:
    assert told(said) == (said if text is None else text, [ADD] * count)


@given(
    st.lists(
        st.sampled_from(["a", "<", "<tool_call>", "</tool_call>", ONE, "{", "\n"]), max_size=8
    ),
    st.integers(1, 9),
)
def test_parting_changes_nothing(words: list[str], size: int) -> None:
    whole = "".join(words)
    parts = [whole[start : start + size] for start in range(0, len(whole), size)]
    assert told(*parts) == told(whole)


def test_call_is_told_once_it_is_whole_and_text_before_it_at_once() -> None:
    reader = CallReader()
    assert reader.feed("I add. <tool") == "I add. "
    assert reader.feed(ONE.removeprefix("<tool")) == ""
    assert reader.calls == [ADD]
