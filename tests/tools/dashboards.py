"""A node for the dashboard to show: a fake behind the real door, with answers a real one gave.

`recorded.json` is what the first of the demo's four nodes answered after its job, keys and long
bytes shortened. Its clock stands still at that moment, so that ages are the same in every run.
"""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import msgspec
import trio

from prsm.node.callers.tokens import Token
from prsm.node.rpc.dispatch import Handler
from prsm.node.rpc.errors import CallError
from prsm.node.rpc.methods.chain import BlockInfo, BlockParams
from prsm.node.rpc.methods.gossip import AnnouncementsParams
from prsm.node.rpc.methods.node import Pong
from prsm.node.rpc.methods.subscriptions import TOPICS
from prsm.node.rpc.methods.table import METHODS
from prsm.node.rpc.spec import Caller
from prsm.node.web.app import Pages
from prsm.node.web.dashboard import dashboard_pages
from tests.tools.rpc_door import OpenDoor, open_door

RECORDED: Final = Path(__file__).parent.parent / "browser" / "recorded.json"
NOW: Final = "2026-11-21T21:44:12.000Z"
_LISTS: Final = ("items", "nodes", "links", "parts")


class NoBlock(CallError):
    """There is no such block."""

    reason = "not_found"


@dataclass
class Shown:
    """A fake node with a dashboard, run by a trio loop in another thread."""

    door: OpenDoor
    loop: trio.lowlevel.TrioToken

    @property
    def url(self) -> str:
        """Of the page."""
        return f"http://{self.door.bound.http}"

    @property
    def cookie(self) -> str:
        """A token that may do all."""
        return self.door.cookie

    def token(self, *scopes: str) -> str:
        """A new token with these scopes."""
        return trio.from_thread.run(self.door.token, *scopes, trio_token=self.loop)

    def revoke_all(self) -> None:
        """Take every token back."""
        for token in self.door.tokens.listed():
            trio.from_thread.run(self.door.tokens.revoke, token.id, trio_token=self.loop)

    def code(self) -> str:
        """A one-time code, as `prsm dashboard` gets one."""
        token = Token(id="", name="dashboard", scopes=("read",), created_ms=0)
        offered = partial(self.door.logins.offer, token)
        return trio.from_thread.run_sync(offered, trio_token=self.loop)[0]

    def close(self) -> None:
        """Cut every connection and listen no more."""
        trio.from_thread.run_sync(self.door.nursery.cancel_scope.cancel, trio_token=self.loop)


def recorded() -> dict[str, Any]:
    """Method -> its answer, typed; `chain_getBlock`: all blocks, oldest first."""
    raw = json.loads(RECORDED.read_bytes())
    blocks = msgspec.convert(raw.pop("chain_getBlock"), tuple[BlockInfo, ...])
    answers = {name: msgspec.convert(found, METHODS[name].result) for name, found in raw.items()}
    return {**answers, "chain_getBlock": blocks, "rpc_ping": Pong(NOW)}


def emptied() -> dict[str, Any]:
    """As a node with nothing: every list of its answers is empty."""
    raw = json.loads(RECORDED.read_bytes())
    del raw["chain_getBlock"]
    raw["chain_getStatus"]["height"] = raw["node_getStatus"]["height"] = 0
    for found in raw.values():
        found.update({name: [] for name in _LISTS if name in found})
    answers = {name: msgspec.convert(found, METHODS[name].result) for name, found in raw.items()}
    return {**answers, "chain_getBlock": (), "rpc_ping": Pong(NOW)}


def refused() -> dict[str, Any]:
    """As a node all of whose rooms fail, but for the call a login makes."""
    fault = NoBlock("the store does not answer", hint="look at its log: prsm logs")
    names = json.loads(RECORDED.read_bytes())
    return {**dict.fromkeys(names, fault), "chain_getBlock": (), "rpc_ping": Pong(NOW)}


def story(blocks: tuple[BlockInfo, ...], jobs: Any) -> dict[str, list[dict[str, Any]]]:  # noqa: ANN401 - as recorded
    """Rows of topics that fit the recorded blocks: votes a few ms apart, one of them late."""
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in TOPICS}
    for block in blocks:
        at = round(datetime.fromisoformat(block.time).timestamp() * 1000)
        base = {"height": block.height, "view": block.view}
        signers = block.certificate.signers if block.certificate else ()
        head = {"hash": block.hash, "time": block.time, "proposer": block.proposer}
        size = {"transactions": len(block.transactions), "state_root": block.state_root}
        rows["heads"].append(base | head | size)
        for after, phase in ((0, "proposal"), (9, "prepared"), (17, "committed")):
            step = {"proposer": block.proposer, "phase": phase, "at_ms": at + after}
            rows["rounds"].append(base | step)
        vote = base | {"validator": block.proposer, "kind": "proposal", "at_ms": at}
        rows["votes"].append(vote)
        for who in range(4):
            late = 0 if who in signers else 14
            prepare = {"validator": who, "kind": "prepare", "at_ms": at + 3 + 2 * who + late}
            commit = {"validator": who, "kind": "commit", "at_ms": at + 11 + 2 * who + late}
            rows["votes"] += [base | prepare, base | commit]
    load = {"peers": 3, "height": 31, "view": 0, "mempool": 0, "jobs_running": 0}
    for second in range(240):
        lag = 1.5 + (second * 37 % 11) / 4 + (38 if second == 190 else 0)
        memory = 148_000_000 + 25_000 * second
        rows["metrics"].append({"loop_lag_ms": lag, "rss_bytes": memory, "rpc_in_flight": 1} | load)
    rows["alerts"].append(
        {"name": "PrsmFewPeers", "severity": "warning", "state": "over"}
        | {"since": blocks[0].time, "text": "1 peer is linked, 2 are needed to go on"}
    )
    for level, event in (("info", "listening"), ("warning", "slow peer"), ("info", "head")):
        line = {"ts": blocks[-1].time, "level": level, "room": "web", "event": event}
        rows["logs"].append(line | {"fields": {"height": 31}})
    rows["jobs"] = [msgspec.to_builtins(job) for job in jobs.items]
    return rows


@contextmanager
def show(
    folder: Path,
    answers: dict[str, Any],
    made: Mapping[str, Callable[[], object]] = MappingProxyType({}),
) -> Iterator[Shown]:
    """Serve these answers and the dashboard while the block runs.

    Args:
        folder: its home is made in there.
        answers: by method, as `recorded` gives them.
        made: methods whose answer is made anew at each call.
    """
    ready, found = threading.Event(), list[Shown]()
    handlers = _handlers(answers, made)
    blocks = answers.pop("chain_getBlock")
    events = story(blocks, answers["job_list"]) if blocks else {}
    pages: Pages = dashboard_pages

    async def main() -> None:
        async with open_door(folder, pages=lambda _calls: pages, handlers=handlers) as door:
            door.node.answers.update(answers)
            for topic, rows in events.items():
                for row in rows:
                    door.events.publish(topic, msgspec.convert(row, TOPICS[topic].row))
            found.append(Shown(door, trio.lowlevel.current_trio_token()))
            ready.set()
            await trio.sleep_forever()

    thread = threading.Thread(target=trio.run, args=(main,))
    thread.start()
    assert ready.wait(20)
    try:
        yield found[0]
    finally:
        with suppress(trio.RunFinishedError):
            found[0].close()
        thread.join(10)


def _handlers(
    answers: dict[str, Any], made: Mapping[str, Callable[[], object]]
) -> dict[str, Handler]:
    """Of methods whose answer depends on what is asked."""
    blocks = answers["chain_getBlock"]

    async def get_block(params: BlockParams, _caller: Caller) -> BlockInfo:
        if params.height is None or not 1 <= params.height <= len(blocks):
            raise NoBlock(f"no block {params.height}, the newest is {len(blocks)}")
        answer: BlockInfo = blocks[params.height - 1]
        return answer

    async def get_announcements(params: AnnouncementsParams, _caller: Caller) -> object:
        found = answers["net_getAnnouncements"]
        if isinstance(found, Exception):
            raise found
        items = [one for one in found.items if f"/{params.topic or ''}" in one.topic]
        return msgspec.structs.replace(found, items=tuple(items))

    def calling(make: Callable[[], object]) -> Handler:
        async def handle(_params: Any, _caller: Caller) -> object:  # noqa: ANN401 - of any method
            return make()

        return handle

    return {
        **{name: calling(make) for name, make in made.items()},
        "chain_getBlock": get_block,
        "net_getAnnouncements": get_announcements,
    }
