"""prsm run --dry-run: the plan in words, one document with --json, and nothing submitted."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import trio
from click.testing import CliRunner, Result

from prsm.node.cli.main import prsm
from prsm.node.rpc.methods.offers import JobPlan
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


def test_dry_run_shows_the_plan_and_submits_nothing(served: Served) -> None:
    found = msgspec.structs.replace(sample(JobPlan), because=("one machine: 9 ms, plan: 3 ms",))
    served.node.answers["infer_plan"] = found
    words = ("run", "m", "x", "--dry-run", "--redundancy", "1-of-1", "--spread", "2")
    result = served.run(*words)
    assert result.exit_code == 0
    assert "one machine: 9 ms, plan: 3 ms" in result.stdout
    [(method, params)] = served.node.calls
    assert (method, params.redundancy, params.spread) == ("infer_plan", "1-of-1", 2)
    document = json.loads(served.run(*words, "--json").stdout)
    assert document["because"] == list(found.because)
    assert served.run("run", "m", "x", "--redundancy", "1-of-2").exit_code == 2
