"""The rules of docs/spec/rpc.md, "Command line", walked over every command.

Each command is run where it cannot succeed and where it can: one document with --json, three
lines on an error, no colour on a pipe, no question where nobody can answer.
"""

import json
import os
import pty
import random
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
import pytest
from click.testing import CliRunner, Result

import prsm
from prsm.node.cli.main import prsm as cli
from prsm.node.rpc.methods.table import METHODS
from prsm.node.rpc.spec import Scope
from tests.tools.commands import ASKING, ELSEWHERE, HASH, LOCAL, leaves
from tests.tools.rpc_node import sample
from tests.tools.served import Served, serve_node

PROGRAMS = {command for command, args in ELSEWHERE.items() if args is None}
# Commands that ask the node are walked by test_commands, where it is down.
OTHERS = sorted(set(leaves(cli)) - PROGRAMS - set(ASKING))
# Commands that ask before they write: each is refused where nobody can answer.
ASKS: dict[tuple[str, ...], list[str]] = {
    ("wallet", "send"): [HASH, "1"],
    ("wallet", "submit"): ["Reclaim", f"hold={HASH}"],
    ("validator", "join"): ["1000"],
    ("validator", "stake"): ["1000"],
    ("validator", "leave"): [],
    ("model", "rm"): ["m"],
    ("storage", "offer"): ["b" + "a" * 58, HASH, "--price", "0.00001", "--rounds", "3"],
    ("bench", "consensus"): [],
    ("bench", "infer"): ["m"],
}
# Commands whose price others decide take a bound; those with a typed amount say what it costs.
PRICED = {
    ("run",),
    ("ask",),
    ("generate",),
    ("plan", "run"),
    ("bench", "infer"),
    ("storage", "offer"),
}
SPENDING = PRICED | {("wallet", "send"), ("validator", "join"), ("validator", "stake")}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve_node(tmp_path_factory.mktemp("rules")) as found:
        yield found


def args_of(command: tuple[str, ...], folder: Path) -> list[str]:
    """Arguments of a command; FILE is one that holds nothing, PASSWORD one with a password."""
    if command in ASKING:
        args = ASKING[command][0]
    else:
        args = LOCAL.get(command) or ELSEWHERE.get(command) or []
    nothing, password = folder / "nothing", folder / "password"
    nothing.write_bytes(b"")
    password.write_text("correct horse\n", encoding="ascii")
    password.chmod(0o600)
    places = {"FILE": str(nothing), "PASSWORD": str(password)}
    return [*command, *(places.get(arg, arg) for arg in args)]


def judge(result: Result, *, as_json: bool) -> None:
    """What holds for any outcome of any command."""
    assert "Traceback" not in result.stdout + result.stderr
    assert "\x1b" not in result.stdout + result.stderr
    if as_json:
        lines = result.stdout.splitlines()
        assert len(lines) == 1, result.stdout
        document = json.loads(lines[0])
        if "error: " in result.stderr:
            assert {"code", "message", "data"} <= set(document["error"])
    if "error: " in result.stderr:
        lines = result.stderr.splitlines()
        at = next(n for n, line in enumerate(lines) if line.startswith("error: "))
        assert lines[at + 1].startswith("why:   ")
        assert lines[at + 2].startswith("try:   ")
        assert lines[at + 3].startswith("PRSM-")
        assert result.exit_code in {1, 2, 3, 4, 5, 6}
        assert "internal" not in result.stdout
    else:
        assert result.exit_code in {0, 1, 6}, result.stderr  # 1, 6: an answer that says no


@pytest.mark.parametrize("command", OTHERS, ids=" ".join)
def test_without_a_node_there_is_one_document_and_three_lines(
    tmp_path: Path, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rules 1, 2, 5: no folder, no node, nobody to ask."""
    monkeypatch.chdir(tmp_path)
    words = ["--home", str(tmp_path / "none"), *args_of(command, tmp_path)]
    if command == ("init",):
        words = [*words[:2], "init", "--name", "no spaces"]
    judge(CliRunner().invoke(cli, [*words, "--json"]), as_json=True)
    judge(CliRunner().invoke(cli, words), as_json=False)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "group", sorted({leaf[:at] for leaf in leaves(cli) for at in range(len(leaf))}), ids=" ".join
)
def test_a_group_alone_shows_what_it_can(group: tuple[str, ...]) -> None:
    """Whoever types a noun gets its help to read, and a program one error."""
    alone = CliRunner().invoke(cli, [*group])
    assert alone.exit_code == 2
    assert not alone.stdout
    assert alone.stderr == CliRunner().invoke(cli, [*group, "--help"]).stdout
    as_json = CliRunner().invoke(cli, [*group, "--json"])
    judge(as_json, as_json=True)
    name = " ".join(("prsm", *group))
    assert json.loads(as_json.stdout)["error"]["message"] == f"{name} needs a command"


@pytest.mark.parametrize("command", sorted(ASKING), ids=" ".join)
def test_with_a_wrong_token_each_is_forbidden_and_says_so(
    served: Served, tmp_path: Path, command: tuple[str, ...]
) -> None:
    http = f"http://{served.door.bound.http}"
    words = ["--home", str(tmp_path / "none"), "--node", http, *args_of(command, tmp_path)]
    result = CliRunner().invoke(cli, [*words, "--json"])
    judge(result, as_json=True)
    assert result.exit_code == 4
    assert not served.node.calls


@pytest.mark.parametrize("command", sorted(ASKS), ids=" ".join)
def test_what_asks_is_refused_where_nobody_can_answer(
    served: Served, command: tuple[str, ...]
) -> None:
    """Rule 3: exit 2 and no call that writes; --yes answers."""
    served.node.calls.clear()
    words = [*command, *ASKS[command]]
    refused = served.run(*words, "--json")
    judge(refused, as_json=True)
    assert refused.exit_code == 2
    assert "--yes" in refused.stderr
    written = [name for name, _ in served.node.calls if METHODS[name].scope is not Scope.READ]
    assert not written


@pytest.mark.parametrize("command", sorted(SPENDING), ids=" ".join)
def test_what_spends_can_be_asked_for_its_price(command: tuple[str, ...]) -> None:
    """Rule 7."""
    found: click.Command = cli
    for word in command:
        assert isinstance(found, click.Group)
        inner = found.get_command(click.Context(found), word)
        assert inner is not None
        found = inner
    names = {name for param in found.params for name in param.opts}
    assert "--dry-run" in names
    assert command not in PRICED or "--max-price" in names


WRITES = sorted(
    method.words
    for method in METHODS.values()
    if method.words and "tx_id" in getattr(method.result, "__struct_fields__", ())
    if method.scope in {Scope.WRITE, Scope.SIGN}
)


@pytest.mark.parametrize("command", WRITES, ids=" ".join)
def test_a_write_says_how_to_follow_its_transaction(
    served: Served, tmp_path: Path, command: tuple[str, ...]
) -> None:
    """Rule 6, for every command of the table whose answer names a transaction."""
    method = METHODS[ASKING[command][1]]
    answer = msgspec.to_builtins(sample(method.result))
    result = served.run(*args_of(command, tmp_path))
    assert result.exit_code == 0, result.stderr
    if answer["tx_id"]:
        assert f"prsm chain tx {answer['tx_id']}" in result.stderr


@pytest.mark.slow
def test_a_terminal_gets_no_colour_it_did_not_ask_for(tmp_path: Path) -> None:
    """Rule 2, on a real terminal: tables and errors are plain everywhere."""
    environ = {
        **os.environ,
        "TERM": "xterm-256color",
        "PYTHONPATH": str(Path(prsm.__file__).parents[1]),
    }
    main, other = pty.openpty()
    command = [
        sys.executable,
        "-m",
        "prsm.node.cli.main",
        "--home",
        str(tmp_path),
        "rpc",
        "methods",
    ]
    with subprocess.Popen(command, stdout=other, stderr=other, env=environ):
        os.close(other)
        seen = _read_all(main)
    os.close(main)
    assert b"node_getStatus" in seen
    assert b"\x1b" not in seen


WORDS = (
    *("", "x", "-", "--", "0x" + "ab" * 32, "1", "-1", "9" * 30, "../..", "/dev/null", "a=b", "{}"),
    *(
        "\udcff",
        "\0",
        "\n",
        "m@1",
        "bafy",
        "1e400",
        "nan",
        "--json",
        "--home",
        "--timeout",
        "heads",
    ),
    *(
        "--yes",
        "--password-fd",
        "--max-price",
        "--lines",
        "--since",
        "--limit",
        "10m",
        "=",
        "\uff21",
    ),
)
# These would start programs, or write where they are run.
STARTING = {("start",), ("restart",), ("init",), ("model", "build"), ("mcp",)}


def test_no_line_of_words_makes_the_client_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """200 lines drawn from a fixed seed: each ends with a code of the table, never with a fault."""
    monkeypatch.chdir(tmp_path)
    dice = random.Random(20261121)
    commands = sorted(set(leaves(cli)) - PROGRAMS - STARTING)
    for _ in range(200):
        drawn = [dice.choice(WORDS) for _ in range(dice.randrange(4))]
        words = [*dice.choice(commands), *drawn, "--node", "http://127.0.0.1:9"]
        line = ["--home", str(tmp_path / "none"), "--timeout", "0.1", *words]
        result = CliRunner().invoke(cli, line, input=dice.choice(("", "x\n", "{}")))
        assert result.exit_code in {0, 1, 2, 3, 4, 5, 6, 130}, words
        assert "PRSM-1000" not in result.output, (words, result.stderr)
        assert "Traceback" not in result.output, words


def _read_all(descriptor: int) -> bytes:
    seen = b""
    while select.select([descriptor], [], [], 30)[0]:
        try:
            more = os.read(descriptor, 65536)
        except OSError:  # the other end is closed
            break
        if not more:
            break
        seen += more
    return seen
