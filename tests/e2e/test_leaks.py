"""What a node gives away: its keys, passwords and tokens in logs, answers, argv, cores, databases.

A node with debug logs is used in every way that touches a secret, rightly and wrongly; then all
that it wrote and said is searched.
"""

import json
import os
import select
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from prsm.node.home import Home
from prsm.node.rpc.client import Client, RpcError, find
from prsm.node.rpc.errors import CallTimeout, NodeUnreachable
from prsm.node.rpc.methods.table import METHODS
from prsm.node.rpc.spec import Scope
from scripts.leaks import hits, secrets_of
from tests.e2e.test_cli import Shell

pytestmark = pytest.mark.long

PASSWORD = "correct horse battery 7391"
WRONG = "wrong horse battery 5520"
GIVES_SECRETS = {"token_create", "token_createLogin"}
ENDS = {"node_stop", "net_disconnect", "net_ban"}


def descendants(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            found += map(int, task.read_text().split())
    return found


class Notes:
    """Everything that was said, each part in a file that is searched."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir()
        self.count = 0

    def keep(self, text: str | bytes) -> None:
        self.count += 1
        raw = text.encode() if isinstance(text, str) else text
        (self.folder / f"{self.count:04d}").write_bytes(raw)


def called(client: Client, notes: Notes, method: str, params: dict[str, Any] | None = None) -> Any:  # noqa: ANN401 - any JSON
    """Call, keep what is answered; None for a refusal."""
    try:
        raw = client.call_raw(method, params, timeout_s=20)
    except RpcError as error:
        notes.keep(json.dumps([error.what, error.data, str(error)], default=str))
        return None
    except (CallTimeout, NodeUnreachable) as error:
        notes.keep(str(error))
        return None
    if method not in GIVES_SECRETS:
        notes.keep(raw)
    return json.loads(raw)


def raw_http(place: str, head: str, body: str = "") -> bytes:
    """One request by hand."""
    host, _, port = place.rpartition(":")
    lines = [head, f"Host: {place}", f"Content-Length: {len(body)}", "Connection: close"]
    with socket.create_connection((host, int(port)), timeout=10) as stream:
        stream.sendall(("\r\n".join([*lines, "", ""]) + body).encode())
        return b"".join(iter(lambda: stream.recv(65536), b""))


def use_tokens(shell: Shell, client: Client, notes: Notes) -> dict[str, bytes]:
    """Tokens, rightly and wrongly; their texts."""
    made = called(client, notes, "token_create", {"name": "ci", "role": "admin"})
    login = called(client, notes, "token_createLogin")
    granted = json.loads(client.post("/login", {"code": login["code"]}))
    place = json.loads((shell.home / "run" / "endpoint.json").read_bytes())["http"]
    cookie = (shell.home / "run" / ".cookie").read_text().strip()
    ping = '{"jsonrpc":"2.0","id":1,"method":"node_stop","params":{"x":"%s"}}'
    json_type = "Content-Type: application/json"
    for token in (made["token"], granted["token"], cookie):
        for head, body in (
            (f"POST /rpc HTTP/1.1\r\n{json_type}\r\nAuthorization: Bearer {token}", ping % token),
            (f"POST /rpc HTTP/1.1\r\n{json_type}\r\nAuthorization: Bearer x{token}", ping % "y"),
            (f"POST /rpc HTTP/1.1\r\n{json_type}\r\nAuthorization: Basic {token}", ping % "y"),
            (f"POST /rpc?token={token} HTTP/1.1\r\n{json_type}", ping % "y"),
            (f"GET /{token} HTTP/1.1", ""),
            (f"POST /rpc HTTP/1.1\r\n{json_type}\r\nX-Request-Id: {token[:40]}", ping % "y"),
            (f"POST /login HTTP/1.1\r\n{json_type}", json.dumps({"code": token})),
        ):
            answer = raw_http(place, head, body)
            # An answer to the sender may name what was sent; what the node keeps may not.
            assert answer.startswith(b"HTTP/1.1 ")
    return {
        "token": made["token"].encode(),
        "login token": granted["token"].encode(),
        "login code": login["code"].encode(),
        "cookie text": cookie.encode(),
    }


def use_keys(shell: Shell, client: Client, notes: Notes, folder: Path) -> None:
    """Passwords, rightly and wrongly, by call and by command."""
    for name, password in (("spare", PASSWORD), ("spare", PASSWORD)):
        called(client, notes, "wallet_createKey", {"name": name, "password": password})
    for password in (WRONG, PASSWORD):
        called(client, notes, "wallet_unlock", {"name": "spare", "password": password})
    called(client, notes, "wallet_unlock", {"name": "spare", "pasword": PASSWORD})
    called(client, notes, "wallet_unlock", {"name": "spare", "password": [PASSWORD]})
    called(client, notes, "wallet_transfer", {"to": "0x" + "ab" * 32, "amount": "5"})
    file = folder / "keys" / "spare-password"  # where secrets may lie
    file.parent.mkdir()
    file.write_text(PASSWORD)
    file.chmod(0o600)
    for words in (
        ["wallet", "unlock", "spare", "--password-file", str(file)],
        ["wallet", "ls"],
        ["config", "show", "--origin"],
        ["doctor"],
        ["status"],
        ["token", "ls"],
        ["token", "whoami"],
        ["logs"],
        ["audit", "ls"],
        ["debug", "bundle", str(folder / "bundle")],
        ["backup", str(folder / "backup.prsm"), "--password-file", str(file)],
    ):
        done = shell.run(*words)
        notes.keep(done.stdout + done.stderr)


def wait_gone(pid: int) -> None:
    """Return once a process is no more; it is nobody's child here."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([handle], [], [], 30)[0], f"process {pid} lives"
    finally:
        os.close(handle)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path / "home")
    yield shell
    shell.run("stop")


def test_a_node_keeps_its_secrets(shell: Shell, tmp_path: Path) -> None:
    """Every method is called; 0 hits."""
    notes = Notes(tmp_path / "answers")
    shell.json("init", "--rpc", "127.0.0.1:0", "--listen", "/ip4/127.0.0.1/tcp/0")
    os.environ["PRSM_LOG__LEVEL"] = "debug"
    try:
        started = shell.json("start", "--detach", "--timeout", "60")
    finally:
        del os.environ["PRSM_LOG__LEVEL"]
    with Client(find(Home(shell.home))) as client:
        known = use_tokens(shell, client, notes)
        use_keys(shell, client, notes, tmp_path)
        for method in METHODS.values():
            if method.name in ENDS | GIVES_SECRETS or method.scope is Scope.SIGN:
                continue
            example = None if method.example is None else msgspec.to_builtins(method.example)
            called(client, notes, method.name, example)
        secrets = {
            **secrets_of(shell.home),
            **known,
            "password": PASSWORD.encode(),
            "wrong password": WRONG.encode(),
        }
        pid = started["pid"]
        family = descendants(pid)
        for one in family:
            notes.keep(Path(f"/proc/{one}/cmdline").read_bytes())
            notes.keep(Path(f"/proc/{one}/environ").read_bytes())
        limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
        (core,) = (line.split() for line in limits if line.startswith("Max core file size"))
        assert core[4:6] == ["0", "0"]
        os.kill(pid, signal.SIGABRT)
    for one in family:
        wait_gone(one)
    assert [path for path in Path.cwd().glob("core*") if path.is_file()] == []
    assert list(shell.home.rglob("core*")) == []
    assert notes.count > 100
    assert len(secrets) >= 10
    found = list(hits(tmp_path, secrets))
    assert found == []
