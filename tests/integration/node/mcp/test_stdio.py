"""`prsm mcp` as clients start it: a program that speaks on its standard input and output."""

import os
import sys
from pathlib import Path

import anyio
import pytest
from mcp import Client, StdioServerParameters

import prsm
from tests.tools.served import Served, serve_node

pytestmark = [pytest.mark.slow, pytest.mark.long]


def started(served: Served, *words: str) -> StdioServerParameters:
    return StdioServerParameters(
        command=sys.executable,
        args=["-m", "prsm.node.cli.main", "--home", str(served.home), "mcp", *words],
        env={"PYTHONPATH": str(Path(prsm.__file__).parents[1]), "PATH": os.environ["PATH"]},
    )


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_program_answers_the_packages_own_client_and_ends_with_it(
    tmp_path: Path, backend: str
) -> None:
    async def main(served: Served) -> None:
        with anyio.fail_after(60):
            async with Client(started(served, "--budget", "0.5")) as client:
                names = {tool.name for tool in (await client.list_tools()).tools}
                assert {"run_model", "generate_text", "verify_receipt"} <= names
                status = await client.call_tool("node_status", {})
                assert not status.is_error
                left = await client.call_tool("spending", {})
                assert left.structured_content == {
                    "limit": "500000",
                    "taken": "0",
                    "left": "500000",
                }
                refused = await client.call_tool("show_job", {"job_id": "nonsense"})
                assert refused.is_error

    with serve_node(tmp_path) as served:
        anyio.run(main, served, backend=backend)


def test_node_that_does_not_run_is_an_error_of_the_tool_not_of_the_server(tmp_path: Path) -> None:
    async def main(served: Served) -> None:
        with anyio.fail_after(60):
            async with Client(started(served)) as client:
                served.door.home.endpoint.unlink()
                found = await client.call_tool("node_status", {})
                assert found.is_error
                assert "prsm start" in str(found.content)

    with serve_node(tmp_path) as served:
        anyio.run(main, served)
