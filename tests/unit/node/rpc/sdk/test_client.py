"""The client against a served fake node, from plain code, from asyncio and from trio."""

import pickle  # noqa: TID251 - as below
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.lowlevel
import msgspec
import pytest
import trio
from typing_extensions import override

import prsm
from prsm.client import AsyncClient, Client, Retries, RpcError, errors
from prsm.node.rpc.errors import NotReady, TooMany
from prsm.node.rpc.faults import fault_of
from prsm.node.rpc.methods.generation import GenerationInfo
from prsm.node.rpc.methods.table import METHODS
from prsm.node.rpc.methods.tasks import TaskInfo
from prsm.node.rpc.methods.wallet import Balance
from prsm.node.rpc.methods.work import Job
from tests.tools.rpc_node import FakeNode, sample
from tests.tools.served import Served, serve_node

QUICK = Retries(tries=3, first_s=0.001, most_s=0.002)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve_node(tmp_path_factory.mktemp("door")) as one:
        yield one


@pytest.fixture
def node(served: Served) -> Iterator[FakeNode]:
    served.node.calls.clear()
    yield served.node
    served.node.answers.clear()
    served.node.before.clear()


@pytest.fixture
def client(served: Served, node: FakeNode) -> Iterator[Client]:
    assert node is served.node
    with Client(served.home, retries=QUICK) as one:
        yield one


def fail_first(node: FakeNode, method: str, error: Exception, *, times: int = 1) -> None:
    """Refuse a method so many times, then answer."""
    left = [times]

    async def before() -> None:
        await anyio.lowlevel.checkpoint()
        left[0] -= 1
        if left[0] >= 0:
            raise error

    node.before[method] = before


def later(node: FakeNode, method: str, *answers: object) -> None:
    """Answer a method with one value after the other; the last one stays."""
    left = list(answers)

    async def before() -> None:
        await anyio.lowlevel.checkpoint()
        node.answers[method] = left.pop(0) if len(left) > 1 else left[0]

    node.before[method] = before


def changed(cls: type[Any], **changes: object) -> Any:  # noqa: ANN401 - of that class
    return msgspec.convert({**msgspec.to_builtins(sample(cls)), **changes}, type=cls)


def test_a_namespace_of_the_table_answers_its_structs(client: Client, node: FakeNode) -> None:
    balance = client.account.get_balance(b"\x07" * 32)
    assert isinstance(balance, Balance)
    assert client.call("account_getBalance", address="0x" + "07" * 32) == balance
    assert client.rpc.ping().time
    assert len(list(client.iter("job_list"))) == 1
    assert [name for name, _ in node.calls].count("account_getBalance") == 2
    assert client.call_raw("rpc_ping").startswith(b"{")


def test_a_refusal_is_of_the_class_of_its_reason(client: Client) -> None:
    with pytest.raises(errors.InvalidParams) as caught:
        client.call("rpc_ping", nonsense=1)
    assert isinstance(caught.value, RpcError)
    assert "nonsense" in caught.value.what


def test_a_refusal_is_the_same_in_the_process_of_a_pools_caller() -> None:
    """An error that cannot be copied breaks the pool whose worker raised it."""
    told = fault_of(-32003, "no such job", {"reason": "unknown_job", "hint": "prsm job ls"})
    twin = pickle.loads(pickle.dumps(told))
    assert type(twin) is type(told) is errors.UnknownJob
    assert (twin.what, twin.hint, twin.code) == (told.what, told.hint, told.code)


def test_what_may_succeed_later_is_tried_again(client: Client, node: FakeNode) -> None:
    fail_first(node, "rpc_ping", NotReady("starting"), times=2)
    assert client.rpc.ping().time
    assert len(node.calls) == 3
    fail_first(node, "rpc_ping", TooMany("full"), times=3)
    with pytest.raises(errors.RateLimited, match="full"):
        client.rpc.ping()


def test_several_threads_share_a_client(client: Client, node: FakeNode) -> None:
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(client.rpc.ping().time)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert (len(found), len(node.calls)) == (8, 8)


class Raced(list[Any]):
    """Connections of which another thread takes the last one between a look and its use."""

    @override
    def __len__(self) -> int:
        return super().__len__() or 1


def test_a_connection_that_another_thread_took_is_made_anew(client: Client, node: FakeNode) -> None:
    driver = cast("Any", client)._driver
    driver._idle = Raced()
    assert client.rpc.ping().time
    client.close()
    assert len(node.calls) == 1


def test_a_job_is_waited_for_and_read(client: Client, node: FakeNode) -> None:
    running = changed(Job, is_over=False, state="running")
    node.answers["infer_run"] = running
    later(node, "job_get", running, changed(Job, is_over=True, state="done", error=None))
    outputs = [{"name": "y", "dtype": "i32", "shape": [2], "data": "0x0100000002000000"}]
    node.answers["job_getResult"] = changed(METHODS["job_getResult"].result, outputs=outputs)
    told: list[str] = []
    job = client.run("m", ["a", "b"], max_price=5)
    job.wait(on_progress=lambda info: told.append(info.state))
    assert told == ["running", "running", "done"]
    assert job.outputs()["y"].tolist() == [1, 2]
    assert "<svg" in job._repr_html_()
    [(_, params)] = [call for call in node.calls if call[0] == "infer_run"]
    assert (params.texts, params.max_price) == (("a", "b"), "5")
    assert client.find_job(job.id).refresh().cancel().id == job.id
    assert "<svg" in job.trace()._repr_html_()
    assert job.retry(max_price=7).id == job.id  # the fake node's only one
    assert msgspec.to_builtins(node.calls[-1][1])["max_price"] == "7"
    assert repr(job) == f"<job {job.id[:10]}… done 0/0 rows>"
    with pytest.raises(TypeError, match="not both"):
        client.run("m", ["a", sample(METHODS["job_getResult"].result).outputs[0]])


def test_a_pull_tells_how_far_it_is(client: Client, node: FakeNode) -> None:
    node.answers["model_startPull"] = changed(TaskInfo, state="running")
    later(
        node,
        "task_get",
        changed(TaskInfo, state="running", done_bytes=5),
        changed(TaskInfo, state="done", done_bytes=9),
    )
    told: list[int] = []
    assert client.pull("m@1.0.0", on_progress=lambda task: told.append(task.done_bytes)).cid
    assert told == [0, 5, 9]
    node.answers["model_startPull"] = changed(TaskInfo, state="failed", error=None)
    with pytest.raises(errors.JobFailed, match="ended as failed"):
        client.pull("m@1.0.0")


def test_text_comes_as_it_is_made(client: Client, node: FakeNode) -> None:
    node.answers["infer_generate"] = changed(GenerationInfo, text="", is_over=False)
    later(
        node,
        "infer_readTokens",
        changed(GenerationInfo, text="Once ", is_over=False),
        changed(GenerationInfo, text="upon", is_over=True),
    )
    with client.generate("m", "x", max_tokens=2) as generation:
        assert list(generation) == ["Once ", "upon"]
    assert generation.text == "Once upon"
    assert "infer_endGeneration" not in [name for name, _ in node.calls]
    node.answers["infer_generate"] = changed(GenerationInfo, text="", is_over=False)
    with client.generate("m", "x"):
        pass
    assert node.calls[-1][0] == "infer_endGeneration"


def test_who_stopped_reading_goes_on_where_it_was(client: Client, node: FakeNode) -> None:
    """No piece twice: a second loop over the text is not a new reading of it."""
    node.answers["infer_generate"] = changed(GenerationInfo, text="Once ", is_over=False)
    node.answers["infer_readTokens"] = changed(GenerationInfo, text="upon", is_over=True)
    generation = client.generate("m", "x")
    for piece in generation:
        assert piece == "Once "
        break
    assert list(generation) == ["upon"]
    assert list(generation) == []
    assert generation.text == "Once upon"


def test_a_node_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(errors.HomeMissing):
        Client(tmp_path / "none")


def test_the_client_works_inside_a_running_loop(client: Client) -> None:
    async def main() -> str:
        await anyio.lowlevel.checkpoint()
        return client.rpc.ping().time  # as a cell of a notebook does

    assert anyio.run(main)


Steps = Callable[[AsyncClient, FakeNode], Awaitable[None]]


async def calls_at_once(client: AsyncClient, node: FakeNode) -> None:
    """More than there are places."""
    client._driver._places = anyio.Semaphore(8)
    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(client.rpc.ping)
    assert len(node.calls) == 20
    rows = [row async for row in client.iter("job_list")]
    assert len(rows) == 1


async def refusals(client: AsyncClient, node: FakeNode) -> None:
    fail_first(node, "rpc_ping", NotReady("starting"))
    assert (await client.rpc.ping()).time
    with pytest.raises(errors.InvalidParams, match="nonsense"):
        await client.call("rpc_ping", nonsense=1)


async def a_job(client: AsyncClient, node: FakeNode) -> None:
    node.answers["infer_run"] = changed(Job, is_over=False, state="running")
    node.answers["job_get"] = changed(Job, is_over=True, state="done", error=None)
    job = await client.run("m", ["a"])
    assert (await job.wait()).info.state == "done"
    assert (await job.result()).rows == 0
    assert (await job.trace()).steps
    assert (await job.retry()).id == job.id
    assert node.calls[-1][0] == "job_retry"


async def a_text(client: AsyncClient, node: FakeNode) -> None:
    node.answers["infer_generate"] = changed(GenerationInfo, text="", is_over=False)
    later(
        node,
        "infer_readTokens",
        changed(GenerationInfo, text="Once ", is_over=False),
        changed(GenerationInfo, text="upon", is_over=True),
    )
    generation = await client.generate("m", "x")
    async for piece in generation:
        assert piece == "Once "
        break
    assert [piece async for piece in generation] == ["upon"]
    node.answers["infer_generate"] = changed(GenerationInfo, text="Once", is_over=True)
    assert await (await client.generate("m", "x")).read() == "Once"


async def a_cancelled_call(client: AsyncClient, node: FakeNode) -> None:
    over = threading.Event()

    async def before() -> None:
        await trio.to_thread.run_sync(over.wait)  # in the loop of the fake node

    node.before["rpc_ping"] = before
    with anyio.move_on_after(0.02) as scope:
        await client.rpc.ping()
    assert scope.cancelled_caught
    over.set()
    node.before.clear()
    assert (await client.rpc.ping()).time  # on another connection than the one that was given up


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("steps", [calls_at_once, refusals, a_job, a_text, a_cancelled_call])
def test_the_async_client(backend: str, steps: Steps, served: Served, node: FakeNode) -> None:
    async def main() -> None:
        async with AsyncClient(served.home, retries=QUICK) as client:
            await steps(client, node)

    anyio.run(main, backend=backend)


FOREIGN = ("trio", "anyio", "asyncio", "libp2p", "starlette", "hypercorn", "wsproto", "click")
BEHIND = ("onnxruntime", "numpy", "cryptography", "structlog", "rich", "logging")
HEAVY = ("msgspec", "typing_extensions", "socket", "ssl", "json", "dataclasses", "inspect")


@pytest.mark.parametrize("name", ["Client", "AsyncClient"])
def test_importing_a_client_loads_neither_daemon_nor_loops_nor_structs(name: str) -> None:
    program = (
        f"import sys; from prsm.client import {name};"
        "print(*{n.split('.')[0] for n in sys.modules} & set(sys.argv[1:]))"
    )
    done = run_python(program, *FOREIGN, *HEAVY, *BEHIND)
    assert done.stdout.strip() == ""


def test_a_call_of_the_sync_client_loads_neither_daemon_nor_loops(served: Served) -> None:
    program = (
        "import sys; from prsm.client import Client; Client(sys.argv[1]).rpc.ping();"
        "print(*{n.split('.')[0] for n in sys.modules} & set(sys.argv[2:]))"
    )
    done = run_python(program, str(served.home), *FOREIGN, *BEHIND)
    assert done.stdout.strip() == ""


def test_every_part_is_there_when_it_is_named_and_listed_before() -> None:
    program = (
        "import prsm.client as c; assert set(c.__all__) <= set(dir(c));"
        "print(*(type(getattr(c, name)).__name__ for name in c.__all__))"
    )
    kinds = run_python(program).stdout.split()
    assert set(kinds) == {"type", "function", "module"}
    with pytest.raises(AttributeError, match="no 'Clinet', only AsyncClient, Client"):
        prsm.client.Clinet  # noqa: B018 - the access is the test


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Client", "AsyncClient"])
def test_importing_a_client_takes_less_than_msgspec_does(name: str) -> None:
    """40 ms with the interpreter where msgspec takes as much; on a busy machine both take more."""

    def cpu_ms(words: str) -> float:
        program = f"import time; t = time.process_time(); {words}; "
        program += "print((time.process_time() - t) * 1000)"
        return min(float(run_python(program).stdout) for _ in range(5))

    assert cpu_ms(f"from prsm.client import {name}") < cpu_ms("import msgspec")


def run_python(program: str, *words: str) -> subprocess.CompletedProcess[str]:
    """A process of its own, so that nothing is loaded before."""
    return subprocess.run(
        [sys.executable, "-c", program, *words],
        env={"PYTHONPATH": str(Path(prsm.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
    )
