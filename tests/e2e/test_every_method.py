"""Every method of a real daemon, three hundred calls each, drawn from the document it serves.

Over a WebSocket, with all layers, files and a chain that moves. What the log says of a fault counts
as one, whatever the caller was told.
"""

import functools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, Phase, given, settings

from prsm.testnet import launch
from tests.tools.openrpc_calls import Calls, texts_in
from tests.tools.sockets import Socket

pytestmark = [pytest.mark.long, pytest.mark.e2e]
SHARDS = 24  # daemons one after the other, so that a part can be run alone
EXAMPLES = int(os.environ.get("PRSM_EXAMPLES", "300"))
CALL_S = 0.5
LAST = {"node_stop"}
# A second token of its own would be needed: this one would end with it.
NOT_OURS = {"rpc_login"}


@pytest.fixture
def network(tmp_path: Path) -> Iterator[launch.Network]:
    network = launch.create(tmp_path / "net", 1)
    try:
        network.start()
        yield network
    finally:
        network.stop()


class World:
    """One connection to the daemon, opened again where it was closed."""

    def __init__(self, node: launch.Node) -> None:
        self._node = node
        self._socket: Socket | None = None
        self.reasons: dict[str, int] = {}

    async def say(self, name: str, params: object) -> Any:  # noqa: ANN401 - any JSON
        """One call; None where its answer takes too long."""
        socket = await self._opened()
        socket.told.clear()
        call = {"jsonrpc": "2.0", "id": name, "method": name, "params": params}
        with trio.move_on_after(CALL_S):
            await socket.send(call)
            while True:
                answer = await socket.receive()
                if isinstance(answer, dict) and answer.get("id") == name:
                    return answer
        self.close()
        return None

    def close(self) -> None:
        """Hang up."""
        if self._socket is not None:
            self._socket.stream.socket.close()
            self._socket = None

    async def _opened(self) -> Socket:
        if self._socket is None:
            where = json.loads(self._node.home.endpoint.read_bytes())
            host, _, port = where["http"].rpartition(":")
            self._socket = Socket(await trio.open_tcp_stream(host, int(port)))
            token = self._node.home.cookie.read_text(encoding="ascii").strip()
            await self._socket.open(where["http"], token=token)
        return self._socket

    async def check(self, name: str, params: object) -> None:
        """A call must not fail inside the node."""
        answer = await self.say(name, params)
        if answer is not None and "error" in answer:
            reason = answer["error"]["data"]["reason"]
            assert reason != "internal", (name, params, answer)
            assert "Traceback" not in json.dumps(answer)
            self.reasons[reason] = self.reasons.get(reason, 0) + 1


@pytest.mark.parametrize("shard", range(SHARDS))
async def test_no_method_fails_inside_a_daemon(
    network: launch.Network, tmp_path: Path, shard: int
) -> None:
    node = network.nodes[0]
    world = World(node)
    shown = (await world.say("rpc_discover", {}))["result"]
    reads = [m["name"] for m in shown["methods"] if m["x-scope"] == "read" and not m["params"]]
    known: set[str] = set()
    for name in reads:
        if name != "rpc_discover":
            known |= set(texts_in(await world.say(name, {})))
    calls = Calls(shown, {text for text in known if len(text) <= 200}, str(tmp_path))
    names = [name for name in calls.names if name not in LAST | NOT_OURS][shard::SHARDS]

    def run(name: str) -> None:
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(calls.params(name))
        def one(params: object) -> None:
            trio.from_thread.run(functools.partial(world.check, name, params))

        one()

    for name in names:
        await trio.to_thread.run_sync(run, name)
    await world.check("rpc_ping", {})
    world.close()
    log = node.home.log.read_text(encoding="utf-8", errors="replace")
    assert "call failed" not in log
    assert "Traceback" not in log
