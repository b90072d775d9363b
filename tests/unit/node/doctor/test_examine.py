"""Every finding of the doctor, made on purpose: what it says, and what a repair leaves."""

import dataclasses
import json
import os
import resource
import socket
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from prsm.node.cli.birth import Birth, init_home
from prsm.node.doctor import Finding, examine, machine, mend
from prsm.node.home import Home
from prsm.node.rpc.methods.node import NodeStatus
from prsm.protocol.errors import LocalError
from tests.tools.certificates import write_certificate
from tests.tools.rpc_node import sample


@pytest.fixture(scope="module")
def born(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = Home(tmp_path_factory.mktemp("doctor") / "home")
    settings = {"net.listen": ("/ip4/127.0.0.1/tcp/0",), "rpc.listen": "127.0.0.1:0"}
    init_home(home, Birth("node", "validator", "local", None, None, settings))
    return home


@pytest.fixture
def home(born: Home, tmp_path: Path) -> Home:
    """A copy of the folder, so that each test may break its own."""
    copied = Home(tmp_path / "home")
    for source in sorted(born.root.rglob("*")):
        target = copied.root / source.relative_to(born.root)
        if source.is_dir():
            target.mkdir(mode=0o700, parents=True)
        else:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            raw = source.read_bytes().replace(str(born.root).encode(), str(copied.root).encode())
            target.write_bytes(raw)
            target.chmod(0o600)
    copied.root.chmod(0o700)
    return copied


def of(found: tuple[Finding, ...], number: str) -> Finding:
    [one] = [finding for finding in found if finding.number == number]
    return one


def look(home: Home, **answers: dict[str, Any]) -> tuple[Finding, ...]:
    return examine(home, answers=answers, environ={})


def status(**changed: Any) -> dict[str, Any]:  # noqa: ANN401 - fields of the answer
    made: dict[str, Any] = msgspec.to_builtins(
        msgspec.structs.replace(sample(NodeStatus), state="ready", version="0.1.0", parts=())
    )
    return {**made, "stale": False, "head_time": None, "wallet_unlocked": True, **changed}


def test_a_fresh_folder_has_no_fault_and_each_number_is_used_once(home: Home) -> None:
    found = look(home)
    assert not [one for one in found if one.level == "fault"]
    numbers = [one.number for one in found]
    assert len(numbers) == len(set(numbers)) == 24


@pytest.mark.parametrize(
    ("left", "level", "said"),
    [
        (timedelta(days=60), "ok", "60.0 days"),
        (timedelta(days=10), "note", "in 10.0 days"),
        (timedelta(hours=30), "warning", "in 1.2 days"),
        (timedelta(hours=-30), "fault", "ended 1.3 days ago"),
    ],
)
def test_a_certificate_of_the_door_that_ends_is_said(
    home: Home, left: timedelta, level: str, said: str
) -> None:
    write_certificate(home.root, left=left)
    environ = {"PRSM_RPC__TLS_CERT": "node.pem", "PRSM_RPC__TLS_KEY": "node.key"}
    found = of(examine(home, environ=environ), "D-17")
    assert (found.level, said in found.what) == (level, True), found
    assert bool(found.fix) == (level != "ok")


def test_a_certificate_that_cannot_be_read_is_a_fault(home: Home) -> None:
    _, key = write_certificate(home.root)
    for name in ("absent.pem", key.name):
        environ = {"PRSM_RPC__TLS_CERT": name, "PRSM_RPC__TLS_KEY": "node.key"}
        found = of(examine(home, environ=environ), "D-17")
        assert (found.level, name in found.what) == ("fault", True), found
    assert of(look(home), "D-17").what == "rpc.tls_cert is empty: no TLS"


def test_no_folder_is_one_fault_beside_the_machine(tmp_path: Path) -> None:
    found = look(Home(tmp_path / "none"))
    assert of(found, "D-01").fix == "prsm init"
    assert [one.number for one in found if one.level == "fault"] == ["D-01"]


def test_open_modes_are_named_and_narrowed(home: Home) -> None:
    home.node_key.chmod(0o644)
    home.root.chmod(0o755)
    finding = of(look(home), "D-02")
    assert (finding.level, finding.can_fix) == ("fault", True)
    assert "2 files or folders" in finding.what
    assert mend(finding, home) == "2 modes narrowed"
    assert of(look(home), "D-02").level == "ok"
    assert home.node_key.stat().st_mode & 0o777 == 0o600


def test_leftovers_of_a_killed_node_are_removed_but_never_those_of_a_running_one(
    home: Home,
) -> None:
    home.endpoint.write_text("{}", encoding="ascii")
    home.cookie.write_text("x", encoding="ascii")
    finding = of(look(home), "D-07")
    assert (finding.level, finding.can_fix) == ("note", True)
    with home.hold():
        assert of(look(home), "D-07").level == "ok"
        with pytest.raises(LocalError, match="runs in this folder"):
            mend(finding, home)
        assert home.endpoint.exists()
    assert mend(finding, home) == "2 files removed"
    assert not home.cookie.exists()


def test_what_has_no_repair_says_so(home: Home) -> None:
    finding = Finding("D-08", "disk", "warning", "full", "prsm model gc", can_fix=True)
    with pytest.raises(LocalError, match="cannot be repaired here"):
        mend(finding, home)


@pytest.mark.parametrize(
    ("number", "spoil", "says"),
    [
        ("D-01", lambda h: h.version.write_text("9\n"), "schema '9'"),
        ("D-03", lambda h: h.node_key.write_bytes(b"short"), "not 32 bytes"),
        ("D-03", lambda h: h.wallet_key("default").unlink(), "is absent"),
        ("D-04", lambda h: (h.keys / "password").unlink(), "is no file"),
        ("D-04", lambda h: (h.keys / "password").chmod(0o640), "at most 0600"),
        ("D-05", lambda h: h.config.write_text("[log]\nlevle = 'x'\n"), "did you mean"),
        ("D-05", lambda h: h.config.write_text("[executor]\nthreads = 2\n"), "migrate"),
        ("D-15", lambda h: h.config.write_text("no toml ["), "line 1"),
        ("D-06", lambda h: h.genesis.write_text("{}"), "genesis.json"),
    ],
)
def test_each_fault_of_the_folder_is_said(home: Home, number: str, spoil: Any, says: str) -> None:  # noqa: ANN401 - any change
    spoil(home)
    finding = of(look(home), number)
    assert finding.level == "fault"
    assert says in finding.what
    assert finding.fix


def test_what_is_no_toml_is_not_to_be_migrated(home: Home) -> None:
    home.config.write_text("no toml [", encoding="utf-8")
    assert of(look(home), "D-05").fix == "prsm config edit"


def test_a_validator_without_its_key_is_told_what_a_backup_cannot_bring(home: Home) -> None:
    home.consensus_key.unlink()
    finding = of(look(home), "D-03")
    assert (finding.level, "the node follows" in finding.what) == ("warning", True)
    assert "restore" not in finding.fix
    assert "prsm config set consensus.validator false" in finding.fix


@pytest.mark.slow
def test_a_port_somebody_holds_is_named_with_its_process(home: Home) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        text = home.config.read_text(encoding="utf-8")
        port = taken.getsockname()[1]
        home.config.write_text(text.replace("127.0.0.1:0", f"127.0.0.1:{port}"), encoding="utf-8")
        finding = of(look(home), "D-12")
    assert finding.level == "fault"
    assert f"process {os.getpid()}" in finding.what


def test_few_open_files_and_a_full_disk(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (256, 256))
    real = os.statvfs(home.data)
    names = [name for name in dir(real) if name.startswith("f_")]
    fields = {name: getattr(real, name) for name in names} | {"f_bavail": 1}
    full = dataclasses.make_dataclass("Full", list(fields))(**fields)
    monkeypatch.setattr(os, "statvfs", lambda _path: full)
    found = look(home)
    assert (of(found, "D-10").level, of(found, "D-08").level) == ("fault", "warning")
    assert "ulimit -n" in of(found, "D-10").fix


def test_the_memory_of_a_control_group_counts(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    (tmp_path / "memory.current").write_text("1000\n", encoding="ascii")
    (tmp_path / "memory.max").write_text("max\n", encoding="ascii")
    before = of(look(home), "D-09")
    (tmp_path / "memory.max").write_text(f"{2**30}\n", encoding="ascii")
    finding = of(look(home), "D-09")
    assert (finding.level, "1.0 GiB available" in finding.what) == ("note", True)
    assert before.what != finding.what


def test_a_node_that_holds_the_folder_and_does_not_answer_is_a_fault(home: Home) -> None:
    with home.hold():
        finding = of(look(home), "D-20")
    assert finding.level == "fault"
    assert str(os.getpid()) in finding.what


@pytest.mark.parametrize(
    ("number", "level", "answer"),
    [
        ("D-11", "fault", {"head_time": "2100-01-01T00:00:00.000Z"}),
        ("D-13", "warning", {"version": "9.9.9"}),
        ("D-21", "fault", {"parts": [{"name": "sync", "state": "failed", "why": "it broke"}]}),
        ("D-23", "warning", {"state": "syncing"}),
        ("D-23", "note", {"stale": True, "offline": False}),
        ("D-24", "note", {"wallet_unlocked": False}),
        ("D-20", "ok", {}),
    ],
)
def test_what_a_running_node_says_is_judged(
    home: Home, number: str, level: str, answer: dict[str, Any]
) -> None:
    with home.hold():
        found = look(home, node_getStatus=status(**answer))
    assert of(found, number).level == level


def test_nobody_linked_is_a_fault_only_where_somebody_was_named(home: Home) -> None:
    peer = "/ip4/127.0.0.1/tcp/4410/p2p/12D3KooWHCJbJKGDfCgHSoCuK9q4STyRnVveqLoXAPBbXHTZx9Cv"
    with home.hold():
        assert of(look(home, node_getStatus=status(peers=0)), "D-22").level == "note"
        found = examine(
            home,
            answers={"node_getStatus": status(peers=0)},
            environ={"PRSM_NET__BOOTSTRAP": peer},
        )
    assert of(found, "D-22").level == "fault"


def test_errors_of_the_log_are_counted(home: Home) -> None:
    lines = [json.dumps({"level": level, "event": "x"}) for level in ("info", "error", "error")]
    home.log.write_text("\n".join(lines) + "\n", encoding="ascii")
    finding = of(look(home), "D-25")
    assert finding.level == "warning"
    assert "2 errors" in finding.what


def test_an_answer_of_another_form_is_a_warning_and_no_crash(home: Home) -> None:
    with home.hold():
        found = look(home, node_getStatus={"state": "ready"})
    assert {one.level for one in found if one.number == "D-00"} == {"warning"}


def test_labs_run_with_their_node_or_not_at_all(home: Home) -> None:
    lab = Home(home.root / "labs" / "lab1")
    lab.create()
    assert of(look(home), "D-26").level == "ok"
    with home.hold():
        assert of(look(home), "D-26").what == "0 of 1 run"
        assert of(look(home), "D-26").level == "warning"
    with lab.hold():
        assert of(look(home), "D-26").fix == "prsm stop"


@pytest.mark.parametrize(
    ("program", "level"), [("/bin/sh", "ok"), ("/bin/nobody-has-this", "warning"), ("/", "warning")]
)
def test_program_of_the_alerts_can_be_started(home: Home, program: str, level: str) -> None:
    home.config.write_text(f'[alerts]\nnotify = ["{program}"]\n')
    found = {one.number: one for one in look(home)}["D-16"]
    assert found.level == level
