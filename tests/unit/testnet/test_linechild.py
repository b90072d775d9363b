"""A child program that is told by lines of JSON: it answers, dies, and is started again."""

import sys

import pytest
import trio

from prsm.testnet.linechild import LineChild
from prsm.testnet.processes import NodeDied

# Says each line again, in two writes; ends at `end`, is silent at `wait`.
ECHO = """
import sys
for line in sys.stdin:
    word = line.strip()[1:-1]
    if word == "end":
        break
    if word != "wait":
        sys.stdout.write('{"said":')
        sys.stdout.flush()
        print(f'"{word}"' + "}", flush=True)
"""
COMMAND = [sys.executable, "-c", ECHO]


class Heard:
    """What a child said, each word once."""

    def __init__(self) -> None:
        self.words: list[object] = []

    def take(self, line: dict[str, object]) -> None:
        self.words.append(line["said"])


async def test_a_line_is_answered_and_the_last_one_never_is() -> None:
    heard = Heard()
    child = LineChild("the child", heard.take)
    async with trio.open_nursery() as nursery:
        await child.start(nursery, COMMAND)
        await child.tell("a", lambda: "a" in heard.words)
        with pytest.raises(NodeDied, match="the child died before it answered"):
            await child.tell("end", lambda: "end" in heard.words)
        assert not child.is_up
        with pytest.raises(NodeDied, match="the child is down"):
            await child.tell("b", lambda: True)
    assert heard.words == ["a"]


async def test_who_waits_for_a_killed_one_hears_of_it_though_it_runs_again() -> None:
    heard = Heard()
    child = LineChild("the child", heard.take)
    ends: list[str] = []

    async def wait() -> None:
        with pytest.raises(NodeDied) as raised:
            await child.tell("wait", lambda: "wait" in heard.words)
        ends.append(str(raised.value))

    async with trio.open_nursery() as nursery:
        await child.start(nursery, COMMAND)
        nursery.start_soon(wait)
        await child.tell("a", lambda: "a" in heard.words)
        await child.kill()
        await child.start(nursery, COMMAND)
        await child.tell("b", lambda: "b" in heard.words)
        assert ends == ["the child died before it answered"]
        await child.kill()
    assert heard.words == ["a", "b"]
