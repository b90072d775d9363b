"""Every command against a served fake node: one document, the right exit code, three lines."""

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from prsm.node.cli.main import COMMANDS, hoist, prsm
from prsm.node.rpc.methods.node import NodeStatus
from prsm.node.rpc.methods.registry import Sent
from prsm.node.rpc.methods.table import METHODS
from prsm.node.rpc.methods.work import Job
from prsm.protocol.errors import LocalError
from tests.tools.commands import ASKING, ELSEWHERE, HASH, LOCAL, leaves
from tests.tools.rpc_node import FakeNode, sample
from tests.tools.served import Served, serve_node


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve_node(tmp_path_factory.mktemp("cli")) as found:
        yield found


@pytest.fixture(autouse=True)
def _fresh(request: pytest.FixtureRequest) -> None:
    if "served" in request.fixturenames:
        node: FakeNode = request.getfixturevalue("served").node
        node.calls.clear()
        node.answers.clear()


@pytest.fixture
def password(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text("correct horse\n", encoding="ascii")
    path.chmod(0o600)
    return path


def words_of(command: tuple[str, ...], password: Path) -> list[str]:
    args, _ = ASKING[command]
    return [*command, *(str(password) if arg == "PASSWORD" else arg for arg in args)]


def test_every_command_is_in_these_tables() -> None:
    assert set(leaves(prsm)) == set(ASKING) | set(LOCAL) | set(ELSEWHERE)


def test_network_key_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "swarm.key"
    made = CliRunner().invoke(prsm, ["net", "new-key", str(path)])
    assert made.exit_code == 0
    assert path.stat().st_mode & 0o777 == 0o600
    again = CliRunner().invoke(prsm, ["net", "new-key", str(path)])
    assert again.exit_code != 0
    assert "never overwritten" in again.output


def test_every_method_with_words_has_its_command() -> None:
    generated = {method.words for method in METHODS.values() if method.words}
    assert generated <= set(leaves(prsm))


@pytest.mark.parametrize("command", sorted(ASKING), ids=" ".join)
def test_json_is_the_rpc_result_verbatim_and_nothing_else(
    served: Served, password: Path, command: tuple[str, ...]
) -> None:
    result = served.run(*words_of(command, password), "--json")
    assert result.exit_code == 0, result.stderr
    method = METHODS[ASKING[command][1]]
    assert result.stdout == msgspec.json.encode(sample(method.result)).decode() + "\n"
    assert served.node.calls[-1][0] == method.name


@pytest.mark.parametrize("command", sorted(ASKING), ids=" ".join)
def test_on_a_pipe_people_get_plain_lines(
    served: Served, password: Path, command: tuple[str, ...]
) -> None:
    result = served.run(*words_of(command, password))
    assert result.exit_code == 0, result.stderr
    assert "\x1b" not in result.stdout
    assert result.stdout.strip()


@pytest.mark.parametrize("command", sorted(ASKING), ids=" ".join)
def test_without_a_node_each_exits_3_with_three_lines_and_a_number(
    tmp_path: Path, password: Path, command: tuple[str, ...]
) -> None:
    """The port is free: nobody can answer there."""
    words = [*words_of(command, password), "--json", "--node", "http://127.0.0.1:9"]
    result = CliRunner().invoke(prsm, ["--home", str(tmp_path / "none"), *words])
    assert result.exit_code == 3
    lines = result.stderr.splitlines()
    assert [line[:7] for line in lines[:3]] == ["error: ", "why:   ", "try:   "]
    assert lines[3].startswith("PRSM-6008")
    assert json.loads(result.stdout)["error"]["data"]["reason"] == "node_unreachable"


@pytest.mark.parametrize("command", sorted(LOCAL), ids=" ".join)
def test_local_commands_need_no_node(tmp_path: Path, command: tuple[str, ...]) -> None:
    words = ["--home", str(tmp_path), *command, *LOCAL[command]]
    result = CliRunner().invoke(prsm, [*words, "--json"])
    assert result.exit_code == 0, result.stderr
    assert len(result.stdout.splitlines()) == 1
    json.loads(result.stdout)
    assert CliRunner().invoke(prsm, words).exit_code == 0


def test_a_wrong_token_exits_4(served: Served, tmp_path: Path) -> None:
    http = f"http://{served.door.bound.http}"
    result = CliRunner().invoke(prsm, ["--home", str(tmp_path), "--node", http, "status"])
    assert result.exit_code == 4
    assert "PRSM-1005" in result.stderr


@pytest.mark.parametrize(
    ("reason", "code"),
    [("insufficient_funds", 1), ("verification_failed", 6), ("deadline_passed", 5)],
)
def test_the_exit_code_follows_the_reason(served: Served, reason: str, code: int) -> None:
    cls: type[LocalError] = type("Refused", (LocalError,), {"reason": reason})
    served.node.answers["chain_getStatus"] = cls("what\x1b[2J", hint="type this")
    result = served.run("chain", "status")
    assert result.exit_code == code
    assert "try:   type this" in result.stderr
    assert "\x1b" not in result.stderr


def test_an_order_that_waits_says_what_for(served: Served) -> None:
    """Nobody took it yet: no error, no transaction to follow, and where to look."""
    served.node.answers["model_yank"] = Sent(None, "it will be sent when validators answer")
    result = served.run("model", "yank", "minilm", "1.0.0")
    assert result.exit_code == 0
    assert "queued: it will be sent when validators answer; see: prsm storage outbox" in (
        result.stderr
    )
    assert "follow it" not in result.stderr


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["statsu"], "did you mean `prsm status`?"),
        (["chain", "blok"], "did you mean `prsm chain block`?"),
        (["qqqqq"], "prsm --help"),
        (["rpc", "methods", "chain_getBlok"], "chain_getBlock"),
        (["explain", "bad_nonc"], "bad_nonce"),
        (["chain", "tx"], "prsm chain tx --help"),
        (["chain", "block", "x"], "prsm chain block --help"),
        (["model", "add", "x", "--name", "m", "--stages", "one"], "prsm model add --help"),
        (["wallet", "send", "0x00", "3.1234567", "--yes"], "decimal"),
        (["wallet", "send", HASH, "3"], "prsm"),
        (["wallet", "new", "x"], "prsm"),
        (["run", "m", "--replicas", "9"], "prsm run --help"),
        (["--timeout", "soon", "status"], "prsm --help"),
        (["rpc", "call", "rpc_ping", "nonsense"], "prsm"),
    ],
)
def test_a_wrong_word_exits_2_and_gets_the_nearest(
    served: Served, words: list[str], hint: str
) -> None:
    result = served.run(*words)
    assert result.exit_code == 2
    assert hint in result.stderr.splitlines()[2]
    assert not served.node.calls


def test_writes_ask_only_at_a_terminal_and_carry_exact_amounts(served: Served) -> None:
    assert served.run("wallet", "send", HASH, "0.000001", "-y").exit_code == 0
    assert served.node.calls[-1][1].amount == "1"
    assert served.run("-y", "wallet", "send", HASH, "1234567.89", "--from", "x").exit_code == 0
    assert served.node.calls[-1][1].amount == "1234567890000"
    assert served.node.calls[-1][1].name == "x"


def test_parameters_reach_the_node_typed(served: Served) -> None:
    words = ["model", "add", "m.onnx", "--name", "m", "--stages", "1,3", "--no-register"]
    words += ["--chat-template", "t.jinja", "--chat-template", "/a/c.json"]
    assert served.run(*words).exit_code == 0
    params = served.node.calls[-1][1]
    assert params.path == str(Path.cwd() / "m.onnx")
    assert params.chat_template == (str(Path.cwd() / "t.jinja"), "/a/c.json")
    assert (params.stages, params.register, params.semver) == ((1, 3), False, "1.0.0")
    assert served.run("chain", "block").exit_code == 0
    assert served.node.calls[-1][1].height is None
    assert served.run("rpc", "call", "wallet_transfer", f"to={HASH}", "amount=5").exit_code == 0
    assert served.node.calls[-1][1].amount == "5"
    document = f'{{"to":"{HASH}","amount":"6"}}'
    assert served.run("rpc", "call", "wallet_transfer", "-", input=document).exit_code == 0
    assert served.node.calls[-1][1].amount == "6"


def test_passwords_come_from_private_files_only(served: Served, password: Path) -> None:
    words = ["wallet", "unlock", "--password-file", str(password)]
    assert served.run(*words).exit_code == 0
    assert served.node.calls[-1][1].password == "correct horse"
    password.chmod(0o644)
    refused = served.run(*words)
    assert refused.exit_code == 2
    assert "chmod 600" in refused.stderr
    password.chmod(0o600)
    password.write_bytes(b"\n")
    assert "empty password" in served.run(*words).stderr


def test_run_waits_for_the_job_and_writes_the_receipt(served: Served, tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("one\n\n two \n", encoding="utf-8")
    proof = tmp_path / "receipt.json"
    waiting = sample(Job)
    done = msgspec.structs.replace(waiting, state="done", is_over=True)
    served.node.answers["infer_run"] = msgspec.structs.replace(waiting, is_over=False)
    served.node.answers["job_get"] = done
    served.node.answers["job_getProof"] = {"version": 1}
    result = served.run(
        "run", "m", str(texts), "three", "--max-price", "2", "--proof", str(proof), "--json"
    )
    assert result.exit_code == 0, result.stderr
    names = [name for name, _ in served.node.calls]
    assert names == ["infer_run", "job_get", "job_getResult", "job_getProof"]
    params = served.node.calls[0][1]
    assert params.texts == ("one", "two", "three")
    assert params.max_price == "2000000"
    assert json.loads(proof.read_bytes()) == {"version": 1}
    assert "output_root" in json.loads(result.stdout)


def test_run_takes_tensors_and_standard_input(served: Served, tmp_path: Path) -> None:
    tensors = tmp_path / "inputs.json"
    one = {"name": "x", "dtype": "float32", "shape": [1], "data": "0x00000000"}
    tensors.write_text(json.dumps({"inputs": [one]}), encoding="utf-8")
    assert served.run("run", "m", str(tensors), "--no-wait").exit_code == 0
    assert served.node.calls[-1][1].inputs[0].name == "x"
    assert served.run("run", "m", "-", "--no-wait", input="a\nb\n").exit_code == 0
    assert served.node.calls[-1][1].texts == ("a", "b")
    assert served.run("run", "m", "-", "--no-wait", input="\n").exit_code == 2
    tensors.write_text("{", encoding="utf-8")
    assert served.run("run", "m", str(tensors), "--no-wait").exit_code == 2


def test_run_says_why_a_job_failed(served: Served) -> None:
    waiting = sample(Job)
    fault = msgspec.structs.replace(waiting.error, reason="no_placement", what="2 peers, 3 needed")
    failed = msgspec.structs.replace(waiting, state="failed", is_over=True, error=fault)
    served.node.answers["infer_run"] = failed
    result = served.run("run", "m", "x")
    assert result.exit_code == 1
    assert "2 peers, 3 needed" in result.stderr
    assert "PRSM-3003" in result.stderr


def test_status_waits_until_ready(served: Served) -> None:
    starting = msgspec.structs.replace(sample(NodeStatus), state="starting")
    served.node.answers["node_getStatus"] = starting
    result = served.run("status", "--wait", "ready", "--json", "--timeout", "0.2")
    assert result.exit_code == 5
    assert "starting, not ready" in result.stderr


@pytest.mark.parametrize(
    ("words", "hoisted"),
    [
        (["status", "--json"], ["--json", "status"]),
        (["run", "m", "x", "--home", "/h", "-y"], ["--home", "/h", "-y", "run", "m", "x"]),
        (["--node=u", "status"], ["--node=u", "status"]),
        (["run", "m", "--", "--json"], ["run", "m", "--", "--json"]),
        (["--json", "demo", "--json", "--keep"], ["--json", "demo", "--json", "--keep"]),
        (["testnet", "up", "--home", "x"], ["testnet", "up", "--home", "x"]),
        (["explain", "--home"], ["--home", "explain"]),
    ],
)
def test_global_options_stand_anywhere_but_behind_a_handover(
    words: list[str], hoisted: list[str]
) -> None:
    assert hoist(words) == hoisted


def test_help_lists_every_command(served: Served) -> None:
    result = served.run("--help")
    assert result.exit_code == 0
    assert all(f"  {name} " in result.stdout for name in COMMANDS)
    for command in leaves(prsm):
        if command[0] not in {"demo", "testnet"}:
            assert served.run(*command, "--help").exit_code == 0


def test_explain_knows_every_spelling(served: Served) -> None:
    for word in ("PRSM-1004", "1004", "invalid_params"):
        assert json.loads(served.run("explain", word, "--json").stdout)["prsm_code"] == "PRSM-1004"
    items = json.loads(served.run("explain", "-32602", "--json").stdout)["items"]
    assert {"invalid_params", "bad_genesis"} <= {item["reason"] for item in items}


def test_config_show_names_origins_and_validate_refuses(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[log]\nlevel = 'debug'\n", encoding="utf-8")
    words = ["--home", str(tmp_path), "config"]
    shown = CliRunner().invoke(prsm, [*words, "show", "--origin", "--json"])
    rows = {row["key"]: row for row in json.loads(shown.stdout)["items"]}
    assert (rows["log.level"]["value"], rows["log.level"]["origin"]) == ("debug", "file")
    assert rows["rpc.listen"]["origin"] == "default"
    (tmp_path / "config.toml").write_text("[log]\nlevle = 'debug'\n", encoding="utf-8")
    refused = CliRunner().invoke(prsm, [*words, "validate"])
    assert refused.exit_code == 2
    assert "did you mean 'log.level'?" in refused.stderr


def test_version_is_an_option_too(tmp_path: Path) -> None:
    result = CliRunner().invoke(prsm, ["--version", "--json", "--home", str(tmp_path)])
    assert json.loads(result.stdout)["node"] is None
    assert CliRunner().invoke(prsm, ["run", "--version"]).exit_code == 2


def test_an_error_of_the_node_names_its_log(served: Served) -> None:
    log = served.home / "logs" / "node.log"
    log.parent.mkdir(exist_ok=True)
    log.touch()
    served.node.answers["rpc_ping"] = ValueError("a fault of ours")
    assert f"log {log}" in served.run("rpc", "call", "rpc_ping").stderr
    assert "node.log" not in served.run("nonsense").stderr
    log.unlink()
    assert "node.log" not in served.run("rpc", "call", "rpc_ping").stderr
