"""`prsm debug bundle`: one file that shows others what is wrong, without secrets.

Keys are never read into it; what is written is cleaned by name and by the bytes of the secrets of
this folder, and read once more before it gets its name. Knows: files, methods. Must not know: what
a finding means.
"""

import contextlib
import io
import os
import platform
import re
import sys
import tarfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from prsm.node.cli.doctoring import look
from prsm.node.cli.failures import Usage
from prsm.node.cli.loglines import log_files
from prsm.node.cli.outputs import OUT_FILE
from prsm.node.cli.session import Session, pass_session
from prsm.node.cli.words import Words
from prsm.node.config import load
from prsm.node.home import Home
from prsm.node.rpc.client import Client, RpcError
from prsm.node.telemetry.logs import SECRET_MARK, SecretFilter
from prsm.node.version import VERSION
from prsm.protocol.errors import LocalError, PrsmError

ASKED: Final = (
    *("rpc_getInfo", "node_getStatus", "node_getConfig", "net_getPeers", "chain_getStatus"),
    *("job_list", "task_list", "storage_getStats", "model_list"),
)
_LOG_BYTES: Final = 2 * 1024 * 1024  # of each log file, its end
_TOKENS: Final = re.compile(
    r"(?P<head>Bearer )\S+|eyJ[\w-]{8,}\.[\w-]+\.[\w-]+|(?P<url>https?://)[^/\s@:]+:[^/\s@]+@|prsm_[A-Za-z0-9_-]{16,}"
)

debug = Words("debug", help="What shows others what is wrong.")


class SecretLeft(LocalError):
    """A secret was found in a bundle that was about to be written: a bug of ours."""

    reason = "internal"


@debug.command("bundle")
@click.argument("file", type=OUT_FILE, required=False)
@pass_session
def bundle(session: Session, file: Path | None) -> None:
    """Write FILE (.tar.gz): findings, configuration, state, the end of the logs; no secrets.

    Look into it before you hand it on: names of models and peers, addresses and amounts are in it.
    """
    target = file or Path(time.strftime("prsm-debug-%Y%m%d-%H%M%S.tar.gz"))
    if target.exists():
        raise Usage(f"{target} exists already", hint="name another file")
    cleaning = Cleaning(session.home)
    parts = {name: cleaning.clean(raw) for name, raw in _parts(session).items()}
    raw = _packed(parts)
    cleaning.refuse_secrets(parts)
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        out.write(raw)
    session.answer_value(
        {"file": str(target.absolute()), "bytes": len(raw), "parts": sorted(parts)}
    )
    session.note("look into it before you hand it on")


class Cleaning:
    """Takes secrets out of texts: by name, by the bytes of a folder's keys, by tokens' form."""

    def __init__(self, home: Home) -> None:
        self._filter, self._known = SecretFilter(), list[bytes]()
        for path in (*home.keys.rglob("*"), home.cookie):
            with contextlib.suppress(OSError):
                if path.is_file():
                    self._guard(path.read_bytes())

    def _guard(self, secret: bytes) -> None:
        for one in {secret, secret.strip()}:
            self._filter.guard(one)
            if len(one) >= 8:
                self._known += [one, one.hex().encode()]

    def clean(self, raw: bytes) -> bytes:
        """A text without secrets; JSON stays JSON."""
        lines = []
        for line in raw.decode("utf-8", "replace").splitlines():
            value: Any = line
            with contextlib.suppress(msgspec.MsgspecError):
                value = msgspec.json.decode(line) if line[:1] in {"{", "["} else line
            cleaned = self._filter(None, "", {"value": value})["value"]
            text = cleaned if isinstance(cleaned, str) else msgspec.json.encode(cleaned).decode()
            lines.append(_TOKENS.sub(_marked, text.replace(str(Path.home()), "~")))
        return ("\n".join(lines) + "\n").encode()

    def refuse_secrets(self, parts: dict[str, bytes]) -> None:
        """Look for the folder's secrets in what was cleaned.

        Raises:
            SecretLeft: one is there.
        """
        for name, raw in parts.items():
            if any(secret in raw for secret in self._known):
                raise SecretLeft(
                    f"{name} would hold a secret; nothing was written", hint="report it"
                )


def _marked(match: re.Match[str]) -> str:
    return f"{match['head'] or match['url'] or ''}{SECRET_MARK}"


def _parts(session: Session) -> dict[str, bytes]:
    home = session.home
    parts = {
        "doctor.json": _json([msgspec.to_builtins(finding) for finding in look(session)]),
        "machine.json": _json(_machine()),
        "where.json": _json({name: str(path) for name, path in home.where()}),
    }
    try:
        loaded = load(home.config, environ=os.environ)
        parts["config.json"] = _json({"config": loaded.config, "origin": dict(loaded.origin)})
    except PrsmError as error:
        parts["config.txt"] = str(error).encode()
    for method in ASKED:
        try:
            parts[f"node/{method}.json"] = session.call(method)
        except (PrsmError, RpcError) as error:
            parts[f"node/{method}.txt"] = f"{type(error).__name__}: {error}".encode()
    with contextlib.suppress(PrsmError, RpcError), Client(session.target, timeout_s=3.0) as client:
        status, body = client.get("/metrics")
        if status == 200:
            parts["node/metrics.txt"] = body
    for log in log_files(home.log)[-2:]:
        parts[f"logs/{log.name}"] = _end_of(log)
    for lab in sorted((home.root / "labs").glob("lab*/logs/node.log")):
        parts[f"logs/{lab.parent.parent.name}.log"] = _end_of(lab)
    return parts


def _json(value: object) -> bytes:
    return msgspec.json.encode(value)


def _machine() -> dict[str, object]:
    found = {one.metadata["Name"]: one.version for one in metadata.distributions()}
    return {
        "prsm": VERSION,
        "python": sys.version,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "variables": sorted(name for name in os.environ if name.startswith("PRSM_")),
        "packages": dict(sorted(found.items())),
    }


def _end_of(log: Path) -> bytes:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _LOG_BYTES))
        return file.read()


def _packed(parts: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for name, raw in sorted(parts.items()):
            entry = tarfile.TarInfo(f"prsm-debug/{name}")
            entry.size, entry.mode, entry.mtime = len(raw), 0o600, int(time.time_ns() // 10**9)
            tar.addfile(entry, io.BytesIO(raw))
    return made.getvalue()
