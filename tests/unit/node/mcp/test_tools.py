"""The tools asked by the package's own client, over a served fake node."""

import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import msgspec
import pytest
import trio
from mcp import Client

from prsm.node.home import Home
from prsm.node.mcp.budget import Budget
from prsm.node.mcp.calls import Node
from prsm.node.mcp.server import make_server
from prsm.node.mcp.tools import Tools
from prsm.node.rpc.client import find
from prsm.node.rpc.errors import CallTimeout, Forbidden, NotReady, TooMany
from prsm.node.rpc.methods.generation import GenerationInfo
from prsm.node.rpc.methods.node import NodeStatus
from prsm.node.rpc.methods.tenants import SpendingInfo
from prsm.node.rpc.methods.work import Job, JobResult, TensorText
from prsm.node.rpc.target import Target
from tests.tools.rpc_node import sample
from tests.tools.served import Served, serve_node

JOB = "0x" + "00" * 32


@dataclass
class Desk:
    """A client in the same process as the server; the node is another."""

    served: Served
    budget: Budget | None = None
    told: list[tuple[float, str | None]] = field(default_factory=list)
    node: Node | None = None  # another than the one served

    def tools(self) -> Tools:
        home = Home(self.served.home)
        return Tools(self.node or Node(lambda: find(home)), home.genesis, self.budget)

    def call(self, name: str, **arguments: object) -> Any:  # noqa: ANN401 - any JSON
        """The structured result; an error of the tool fails the test."""
        result = self.result(name, **arguments)
        assert not result.is_error, result.content
        return result.structured_content

    def refused(self, name: str, **arguments: object) -> str:
        result = self.result(name, **arguments)
        assert result.is_error
        return str(result.content[0].text)

    def result(self, name: str, **arguments: object) -> Any:  # noqa: ANN401 - the client's own
        async def progress(progress: float, total: float | None, message: str | None) -> None:
            del total
            self.told.append((progress, message))

        async def ask(client: Client) -> object:
            return await client.call_tool(name, arguments, progress_callback=progress)

        return self.within(ask)

    def within(self, ask: Callable[[Client], Any]) -> Any:  # noqa: ANN401 - as above
        async def main() -> object:
            with anyio.fail_after(30):
                async with Client(make_server(self.tools())) as client:
                    return await ask(client)

        return anyio.run(main)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve_node(tmp_path_factory.mktemp("mcp")) as one:
        yield one


@pytest.fixture
def desk(served: Served) -> Desk:
    served.node.calls.clear()
    served.node.answers.clear()
    return Desk(served, Budget(1000))


def asked(desk: Desk, method: str) -> Any:  # noqa: ANN401 - the method's parameters
    return dict(desk.served.node.calls)[method]


def a_job(locked: str = "300") -> Job:
    job: Job = sample(Job)
    told: Job = msgspec.structs.replace(job, is_over=True, error=None, locked=locked)
    return told


def test_all_tools_are_listed_with_what_they_do_to_the_world(desk: Desk) -> None:
    async def ask(client: Client) -> object:
        return (await client.list_tools()).tools

    tools = {tool.name: tool for tool in desk.within(ask)}
    spending = {name for name, tool in tools.items() if not tool.annotations.read_only_hint}
    assert spending == {"run_model", "generate_text"}
    assert len(tools) == 12
    assert all(tool.description for tool in tools.values())
    assert "ctx" not in tools["generate_text"].input_schema["properties"]


def test_every_reading_tool_answers(desk: Desk) -> None:
    assert desk.call("node_status")["height"] == 0
    tools: dict[str, dict[str, object]] = {
        "search_models": {"query": "sentences"},
        "list_models": {},
        "show_model": {"model": "net"},
        "quote": {"model": "net", "rows": 3},
        "list_jobs": {},
        "show_job": {"job_id": JOB},
        "get_receipt": {"job_id": JOB},
        "spending": {},
    }
    for name, arguments in tools.items():
        assert isinstance(desk.call(name, **arguments), dict)
    assert asked(desk, "infer_quote").rows == 3


def test_run_gives_numbers_and_spends_within_the_budget(desk: Desk) -> None:
    data = "0x" + struct.pack("<4f", 1, 2, 3, 0.5).hex()
    result: JobResult = sample(JobResult)
    desk.served.node.answers |= {
        "infer_run": a_job(),
        "job_getResult": msgspec.structs.replace(
            result, outputs=(TensorText("out", "f32", (2, 2), data),)
        ),
    }
    done = desk.call("run_model", model="net", texts=["a", "b"], max_price="400")
    assert done["outputs"][0]["values"] == [[1.0, 2.0], [3.0, 0.5]]
    assert asked(desk, "infer_run").max_price == "400"
    assert desk.call("spending") == {"limit": "1000", "taken": "300", "left": "700"}
    text = desk.refused("run_model", model="net", texts=["a"], max_price="701")
    assert "PRSM-1083" in text
    assert desk.call("run_model", model="net", texts=["a"])["locked"] == "300"
    assert asked(desk, "infer_run").max_price == "700"


def test_what_the_node_refuses_costs_nothing_and_is_told_in_its_words(desk: Desk) -> None:
    desk.served.node.answers["infer_run"] = Forbidden("no write scope")
    text = desk.refused("run_model", model="net", texts=["a"])
    assert "no write scope" in text
    assert "PRSM-1006" in text
    assert desk.call("spending")["taken"] == "0"
    assert "whole micro-FTNS" in desk.refused("run_model", model="m", texts=["a"], max_price="1.5")


def test_work_that_was_begun_counts_whatever_is_refused_afterwards(desk: Desk) -> None:
    """The job goes on, locks and pays, though the node answers no question about it."""
    running = msgspec.structs.replace(a_job(), is_over=False, state="running")
    desk.served.node.answers |= {"infer_run": running, "job_get": NotReady("starting")}
    desk.refused("run_model", model="net", texts=["a"], max_price="400")
    assert desk.call("spending")["taken"] == "400"
    begun = msgspec.structs.replace(sample(GenerationInfo), is_over=False, text="", locked="50")
    desk.served.node.answers |= {"infer_generate": begun, "infer_readTokens": Forbidden("ended")}
    desk.refused("generate_text", model="net", prompt="a", max_price="500")
    assert desk.call("spending")["taken"] == "900"


def test_a_call_whose_effect_is_unknown_counts(desk: Desk) -> None:
    desk.served.node.answers["infer_run"] = CallTimeout("its effect may still come")
    desk.refused("run_model", model="net", texts=["a"], max_price="400")
    assert desk.call("spending")["taken"] == "400"


def test_a_node_that_is_not_there_costs_nothing(desk: Desk, tmp_path: Path) -> None:
    """It may be restarted: with all of the budget gone nothing would run afterwards."""
    desk.served.node.answers["infer_run"] = a_job()
    away = Node(lambda: find(Home(tmp_path)))
    shut = Node(lambda: Target(None, ("127.0.0.1", 1), None))
    for node in (away, shut):
        desk.node = node
        desk.refused("run_model", model="net", texts=["a"])
        desk.refused("generate_text", model="net", prompt="a")
        assert desk.call("spending")["taken"] == "0"


def test_what_no_call_can_carry_is_said_and_costs_nothing(desk: Desk) -> None:
    """Half an emoji in the JSON of a client is no text; so is no number a price."""
    slips: tuple[tuple[str, dict[str, object], str], ...] = (
        ("run_model", {"texts": ["\ud83d"]}, "no text that can be sent"),
        ("run_model", {"texts": ["a"], "max_price": "9" * 5000}, "whole micro-FTNS"),
        ("generate_text", {"prompt": "a", "temperature": 1e308}, "at most 100"),
    )
    for name, arguments, said in slips:
        assert said in desk.refused(name, model="net", **arguments)
        assert desk.call("spending")["taken"] == "0"
    assert not [name for name, _ in desk.served.node.calls if name.startswith("infer_")]


def test_quota_of_calls_makes_a_tool_wait(desk: Desk) -> None:
    over = TooMany("50 calls a second", retry_after_ms=1)
    desk.served.node.answers["node_getStatus"] = deque([over, over, sample(NodeStatus)])
    assert desk.call("node_status")["height"] == 0
    assert len(desk.served.node.calls) == 3


def test_generated_text_comes_with_progress(desk: Desk) -> None:
    part: GenerationInfo = sample(GenerationInfo)
    begun = msgspec.structs.replace(part, is_over=False, text="", locked="50", tokens=1)
    desk.served.node.answers |= {
        "infer_generate": begun,
        "infer_readTokens": deque(
            [
                msgspec.structs.replace(begun, text="Hel"),
                msgspec.structs.replace(begun, text="lo", is_over=True, tokens=2, finish="stop"),
            ]
        ),
    }
    done = desk.call("generate_text", model="net", prompt="Hi", is_chat=True, temperature=0.5)
    assert (done["text"], done["finish"]) == ("Hello", "stop")
    assert [message for _, message in desk.told] == ["Hel", "lo"]
    assert asked(desk, "model_getPrompt").messages[0].content == "Hi"
    assert asked(desk, "infer_generate").temperature == 500
    assert desk.call("spending")["taken"] == "50"


@pytest.mark.parametrize(
    ("tool", "begins", "waits", "ends"),
    [
        ("generate_text", "infer_generate", "infer_readTokens", "infer_endGeneration"),
        ("run_model", "infer_run", "job_get", "job_cancel"),
    ],
)
def test_cancelled_tool_ends_what_it_began(
    desk: Desk, tool: str, begins: str, waits: str, ends: str
) -> None:
    node, waiting, ended = desk.served.node, threading.Event(), threading.Event()
    stopped = trio.Event()  # of the node's own loop
    part = msgspec.structs.replace(sample(GenerationInfo), is_over=False)
    job = msgspec.structs.replace(a_job(), is_over=False)
    node.answers[begins] = part if begins == "infer_generate" else job

    async def stuck() -> None:
        waiting.set()
        await stopped.wait()

    async def told() -> None:
        await trio.lowlevel.checkpoint()
        stopped.set()
        ended.set()

    node.before = {waits: stuck, ends: told}
    arguments = {"prompt": "Hi"} if tool == "generate_text" else {"texts": ["a"]}

    async def ask(client: Client) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.call_tool, tool, {"model": "net", **arguments})
            await anyio.to_thread.run_sync(waiting.wait, 20)
            tasks.cancel_scope.cancel()
        assert await anyio.to_thread.run_sync(ended.wait, 20)

    desk.within(ask)
    node.before = {}


def test_caller_without_any_limit_spends_nothing_until_a_budget_is_named(served: Served) -> None:
    served.node.calls.clear()
    served.node.answers.clear()
    served.node.answers |= {"infer_run": a_job("0"), "spending_get": limits(None)}
    desk = Desk(served)
    desk.call("run_model", model="net", texts=["a"])
    assert asked(desk, "infer_run").max_price == "0"


def test_token_with_a_limit_is_held_to_it_by_the_node(served: Served) -> None:
    served.node.calls.clear()
    served.node.answers.clear()
    served.node.answers |= {"infer_run": a_job("7"), "spending_get": limits("5000")}
    desk = Desk(served)
    desk.call("run_model", model="net", texts=["a"])
    assert asked(desk, "infer_run").max_price is None
    assert desk.call("spending")["left"] == "5000"


def test_limit_that_could_not_be_asked_for_is_asked_for_again(served: Served) -> None:
    """A node that starts knows no tokens yet."""
    served.node.answers.clear()
    served.node.answers |= {"infer_run": a_job("7"), "spending_get": NotReady("starting")}
    desk = Desk(served)

    async def twice(client: Client) -> object:
        run = {"model": "net", "texts": ["a"]}
        await client.call_tool("run_model", run)
        served.node.answers["spending_get"] = limits("5000")
        return await client.call_tool("run_model", run)

    served.node.calls.clear()
    desk.within(twice)
    asked_for = [params.max_price for name, params in served.node.calls if name == "infer_run"]
    assert asked_for == ["0", None]


def limits(left: str | None) -> SpendingInfo:
    told: SpendingInfo = msgspec.structs.replace(sample(SpendingInfo), left=left)
    return told


def test_receipt_that_is_none_does_not_hold(desk: Desk, tmp_path: Path) -> None:
    assert "genesis.json is no file" in desk.refused("verify_receipt", receipt={"a": 1})
    Home(desk.served.home).genesis.write_text("{}")
    found = desk.call("verify_receipt", receipt={"a": 1})
    assert found["valid"] is False
    assert "job_id or receipt" in desk.refused("verify_receipt")
    assert not list(tmp_path.iterdir())
