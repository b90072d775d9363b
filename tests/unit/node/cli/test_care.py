"""doctor, upgrade, debug bundle, bench, top, completion, man, help: as people run them."""

import json
import re
import shlex
import shutil
import subprocess
import tarfile
from pathlib import Path

import click
import msgspec
import pytest
from click.testing import CliRunner, Result

from prsm.node.cli import labs
from prsm.node.cli.bundle import Cleaning
from prsm.node.cli.main import COMMANDS, prsm
from prsm.node.cli.topics import TOPICS
from prsm.node.config import load
from prsm.node.home import Home
from prsm.node.rpc.methods.node import NodeStatus, Peer, Peers
from prsm.protocol.genesis import from_json
from tests.tools.rpc_node import sample
from tests.tools.served import Served


def run(home: Path, *words: str) -> Result:
    return CliRunner().invoke(prsm, ["--home", str(home), *words])


@pytest.fixture
def born(tmp_path: Path) -> Path:
    words = ("init", "--rpc", "127.0.0.1:0", "--listen", "/ip4/127.0.0.1/tcp/0")
    assert run(tmp_path / "born", *words).exit_code == 0
    return tmp_path / "born"


def test_doctor_ends_with_1_on_a_fault_and_0_once_it_is_repaired(born: Path) -> None:
    (born / "keys" / "node.key").chmod(0o644)
    broken = run(born, "doctor", "--json")
    assert (broken.exit_code, json.loads(broken.stdout)["faults"]) == (1, 1)
    assert "prsm doctor --fix" in run(born, "doctor").stdout
    fixed = run(born, "doctor", "--fix", "--json")
    document = json.loads(fixed.stdout)
    assert (fixed.exit_code, document["faults"]) == (0, 0)
    assert document["mended"] == [{"number": "D-02", "done": "1 modes narrowed"}]


def test_doctor_changes_nothing_unasked(born: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in born.rglob("*") if path.is_file()}
    run(born, "doctor")
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_upgrade_names_newer_peers_and_what_stands_against_it(served: Served, born: Path) -> None:
    peer = msgspec.structs.replace(sample(Peer), agent="prsm/99.1.0")
    served.node.answers["net_getPeers"] = Peers(items=(peer,), banned=())
    served.node.answers["node_getStatus"] = msgspec.structs.replace(
        sample(NodeStatus), version="0.0.1"
    )
    words = ["--node", f"unix:{served.door.home.socket}", "upgrade", "--check", "--json"]
    document = json.loads(CliRunner().invoke(prsm, ["--home", str(served.home), *words]).stdout)
    assert document["newer_peers"] == ["prsm/99.1.0"]
    assert document["restart_needed"] is True
    (born / "VERSION").write_text("7\n", encoding="ascii")
    result = run(born, "upgrade", "--check", "--json")
    assert result.exit_code == 1
    assert "schema '7'" in json.loads(result.stdout)["blocking"][0]


def test_a_bundle_holds_findings_and_logs_and_no_secret(born: Path, tmp_path: Path) -> None:
    home = Home(born)
    password = (home.keys / "password").read_text(encoding="ascii").strip()
    seed = home.node_key.read_bytes()
    log = [
        json.dumps({"event": "x", "password": "hunter22", "text": password}),
        f"Authorization: Bearer abc.def seed {seed.hex()} https://me:pass@host/",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    ]
    home.log.write_text("\n".join(log) + "\n", encoding="utf-8")
    result = run(born, "debug", "bundle", str(tmp_path / "b.tgz"), "--json")
    assert result.exit_code == 0, result.stderr
    with tarfile.open(tmp_path / "b.tgz") as tar:
        members = {one.name: tar.extractfile(one) for one in tar.getmembers()}
        texts = {name: file.read() for name, file in members.items() if file is not None}
    whole = b"".join(texts.values())
    for secret in (password.encode(), b"hunter22", seed, seed.hex().encode(), b"me:pass"):
        assert secret not in whole
    assert b"abc.def" not in whole
    assert b"c2lnbmF0dXJl" not in whole
    assert b"[secret]" in texts["prsm-debug/logs/node.log"]
    assert "prsm-debug/doctor.json" in texts
    assert (tmp_path / "b.tgz").stat().st_mode & 0o777 == 0o600
    assert run(born, "debug", "bundle", str(tmp_path / "b.tgz")).exit_code == 2


def test_a_secret_that_slipped_through_stops_the_bundle(born: Path) -> None:
    cleaning = Cleaning(Home(born))
    raw = Home(born).node_key.read_bytes()
    with pytest.raises(Exception, match="would hold a secret"):
        cleaning.refuse_secrets({"a": b"so " + raw})
    assert raw.hex().encode() not in cleaning.clean(raw.hex().encode())


def test_a_development_network_has_labs_with_money_and_an_address(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    result = run(home.root, "init", "--dev", "--labs", "2", "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["labs"] == 2
    assert "next: prsm start --detach" in result.stderr
    found = labs.found(home)
    assert [lab.root.name for lab in found] == ["lab1", "lab2"]
    genesis = from_json(home.genesis.read_bytes())
    assert (len(genesis.validators), len(genesis.allocations)) == (1, 3)
    for lab in found:
        lab.check()
        assert lab.genesis.read_bytes() == home.genesis.read_bytes()
        [bootstrap] = load(lab.config).config.net.bootstrap
        assert bootstrap.endswith(str(document["peer_id"]))
    again = run(home.root, "init", "--dev")
    assert (again.exit_code, "PRSM-6003" in again.stderr) == (2, True)
    both = run(tmp_path / "x", "init", "--dev", "--profile", "light")
    assert (both.exit_code, (tmp_path / "x").exists()) == (2, False)


def test_labs_are_told_the_port_where_any_would_do(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    result = run(home.root, "init", "--dev", "--labs", "1", "--listen", "/ip4/127.0.0.1/tcp/0")
    assert result.exit_code == 0, result.stderr
    [listen] = load(home.config).config.net.listen
    [bootstrap] = load(labs.found(home)[0].config).config.net.bootstrap
    assert not listen.endswith("/tcp/0")
    assert bootstrap.startswith(f"{listen}/p2p/")


def test_top_without_a_terminal_is_one_look(served: Served) -> None:
    document = json.loads(served.run("top", "--json").stdout)
    assert set(document) >= {"status", "peers", "jobs", "tasks"}
    assert "height\t" in served.run("top").stdout


def test_bench_measures_and_leaves_no_file(served: Served) -> None:
    net = json.loads(served.run("bench", "net", "--calls", "3", "--json").stdout)
    assert net["items"][0]["wanted"] == "<= 1"
    (served.home / "data").mkdir(exist_ok=True)
    disk = served.run("bench", "disk", "--mib", "1", "--syncs", "2", "--json")
    assert disk.exit_code == 0, disk.stderr
    assert all(row["value"] > 0 for row in json.loads(disk.stdout)["items"])
    assert not list((served.home / "data").glob(".bench*"))
    dry = json.loads(served.run("bench", "consensus", "--dry-run", "--json").stdout)
    assert dry["writes"] == 10
    assert "wallet_transfer" not in {name for name, _ in served.node.calls}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_its_shell_accepts(tmp_path: Path, shell: str) -> None:
    script = run(tmp_path, "completion", shell).stdout
    assert "_PRSM_COMPLETE" in script
    program = shutil.which(shell)
    if program is not None and shell != "fish":
        (tmp_path / "script").write_text(script, encoding="utf-8")
        subprocess.run([program, "-n", str(tmp_path / "script")], check=True)


@pytest.mark.parametrize(
    ("line", "some"),
    [
        ("prsm conf", "config"),
        ("prsm config get log.l", "log.level"),
        ("prsm rpc call node_getSt", "node_getStatus"),
        ("prsm rpc subscribe hea", "heads"),
        ("prsm help mon", "money"),
        ("prsm explain insufficient_f", "insufficient_funds"),
        ("prsm chain bl", "block"),
        ("prsm run --max-", "--max-price"),
    ],
)
def test_tab_completes_commands_options_and_names(line: str, some: str) -> None:
    words = line.split()
    environ = {
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
        "_PRSM_COMPLETE": "bash_complete",
    }
    result = CliRunner().invoke(prsm, [], env=environ, prog_name="prsm")
    assert f"plain,{some}" in result.stdout.splitlines()


def test_the_manual_page_has_every_command_and_no_stray_request(tmp_path: Path) -> None:
    page = run(tmp_path, "man").stdout
    for name in COMMANDS:
        assert re.search(rf"^\.SS prsm {name.replace('-', '.?-')}( |$)", page, re.MULTILINE), name
    requests = {line.split()[0] for line in page.splitlines() if line.startswith(".")}
    assert requests <= {".TH", ".SH", ".SS", ".TP", ".B"}
    assert not [line for line in page.splitlines() if line.startswith("'")]


def test_every_command_line_of_a_topic_exists() -> None:
    """A topic that names a command or an option that is gone would send people astray."""
    seen = 0
    for text in TOPICS.values():
        for words in re.findall(
            r"^    (prsm [^\n]*?)(?:   .*)?$|`(prsm [^`]+)`", text, re.MULTILINE
        ):
            check_line(shlex.split(words[0] or words[1])[1:])
            seen += 1
    assert seen > 30


def check_line(words: list[str]) -> None:
    """Walk the words of a command line down the tree; options must be the command's."""
    command: click.Command = prsm
    ctx = click.Context(prsm)
    options = {name for param in prsm.params for name in param.opts}
    for word in words:
        if isinstance(command, click.Group) and not word.startswith("-"):
            inner = command.get_command(ctx, word)
            if word.isupper():
                break
            assert inner is not None, words
            command, ctx = inner, click.Context(inner, parent=ctx)
            options |= {name for param in command.params for name in param.opts}
        elif word.startswith("--"):
            assert word in options, words


def test_help_knows_topics_commands_and_the_nearest(tmp_path: Path) -> None:
    assert json.loads(run(tmp_path, "help", "--json").stdout)["items"][0]["topic"] == "start"
    assert run(tmp_path, "help", "money").stdout.startswith("Amounts, locks, prices")
    assert "prsm chain block" in run(tmp_path, "help", "chain", "block").stdout
    wrong = run(tmp_path, "help", "mony")
    assert (wrong.exit_code, "prsm help money" in wrong.stderr) == (2, True)


def test_start_dev_makes_the_folder_first(tmp_path: Path) -> None:
    """A key that is refused ends the start, after the folder was made."""
    result = run(tmp_path / "home", "start", "--dev", "--set", "log.levle=x")
    assert result.exit_code == 2
    assert "a development network was made" in result.stderr
    Home(tmp_path / "home").check()
