"""`prsm generate` against a served fake node: text as it comes, one document with `--json`."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import trio
from click.testing import CliRunner, Result

from prsm.node.cli.main import prsm
from prsm.node.rpc.methods.generation import GenerationInfo
from tests.tools.rpc_door import OpenDoor, open_door
from tests.tools.rpc_node import FakeNode, sample


class Served:
    """A fake node served by a trio loop in another thread."""

    def __init__(self, door: OpenDoor) -> None:
        self.node: FakeNode = door.node
        self.home: Path = door.home.root

    def run(self, *words: str, input: str | None = None) -> Result:  # noqa: A002 - click's
        return CliRunner().invoke(prsm, ["--home", str(self.home), *words], input=input)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    ready, doors = threading.Event(), list[OpenDoor]()
    tokens: list[trio.lowlevel.TrioToken] = []

    async def main() -> None:
        async with open_door(tmp_path) as door:
            doors.append(door)
            tokens.append(trio.lowlevel.current_trio_token())
            ready.set()
            await trio.sleep_forever()

    thread = threading.Thread(target=trio.run, args=(main,))
    thread.start()
    assert ready.wait(10)
    yield Served(doors[0])
    tokens[0].run_sync_soon(doors[0].nursery.cancel_scope.cancel)
    thread.join(10)


def test_generate_writes_text_as_it_comes_and_what_moves_a_terminal_not_at_all(
    served: Served,
) -> None:
    begun = sample(GenerationInfo)
    served.node.answers["infer_generate"] = msgspec.structs.replace(begun, is_over=False, text="")
    served.node.answers["infer_readTokens"] = msgspec.structs.replace(
        begun, text="h\u00e9llo\n\x1b[2J", finish="stop", tokens=3, tokens_ms=10
    )
    result = served.run("generate", "m", "-", "--temperature", "0.8", "--stages", "2", input="hi")
    assert result.exit_code == 0
    assert result.stdout == "h\u00e9llo\n\ufffd[2J\n"
    assert "3 tokens (stop)" in result.stderr
    [(_, asked), _] = served.node.calls
    assert (asked.prompt, asked.temperature, asked.stages, asked.spare) == ("hi", 800, 2, True)
    assert served.run("generate", "m", "-", input="").exit_code == 2


def test_generate_gives_one_document_with_all_of_the_text(served: Served) -> None:
    begun = sample(GenerationInfo)
    served.node.answers["infer_generate"] = msgspec.structs.replace(begun, is_over=False, text="")
    served.node.answers["infer_readTokens"] = msgspec.structs.replace(begun, text="all of it")
    result = served.run("generate", "m", "hi", "--json", "--max-price", "2")
    assert json.loads(result.stdout)["text"] == "all of it"
    assert served.node.calls[0][1].max_price == "2000000"
