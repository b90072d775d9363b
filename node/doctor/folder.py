"""Checks D-01 to D-07 and D-15 to D-17: the folder, its keys, its configuration.

Knows: paths, modes. Must not know: the machine, a running node.
"""

import os
import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from prsm.node.certificate import read_end_s
from prsm.node.doctor.finding import Check, Finding, Level, Patient
from prsm.node.home import SCHEMA_VERSION, Home
from prsm.node.telemetry.alertrules import CERTIFICATE_S_MIN
from prsm.protocol.errors import LocalError
from prsm.protocol.genesis import BadGenesis, from_json

_SEED_BYTES: Final = 32
_DAY_S: Final = 86_400
_CERTIFICATE_NOTE_S: Final = 14 * _DAY_S  # time to ask somebody for another
_NO_VOTES: Final = (
    "bring the key from the old folder, whose node must never run again, and type prsm consensus "
    "unsafe-resume; or follow only: prsm config set consensus.validator false"
)


def _folder(patient: Patient) -> Finding:
    home, name = patient.home, "folder"
    try:
        text = home.version.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return Finding("D-01", name, "fault", f"{home.root} holds no node", "prsm init")
    if text != str(SCHEMA_VERSION):
        what = f"{home.version} says schema {text[:20]!r}, this version reads {SCHEMA_VERSION}"
        return Finding("D-01", name, "fault", what, "prsm upgrade --check")
    return Finding("D-01", name, "ok", f"{home.root}, schema {text}")


def _modes(patient: Patient) -> Finding:
    wide = list(_wide(patient.home))
    if not wide:
        return Finding("D-02", "modes", "ok", "nobody else may read the folder")
    path, mode = wide[0]
    what = f"{len(wide)} files or folders are open to others, such as {path} ({mode:04o})"
    is_key = any(str(one).startswith(str(patient.home.keys)) for one, _ in wide)
    return Finding(
        "D-02", "modes", "fault" if is_key else "warning", what, "prsm doctor --fix", can_fix=True
    )


def _wide(home: Home) -> Iterator[tuple[Path, int]]:
    """What others may enter, and what others may read of the small secret folders."""
    for path in (home.root, home.keys, home.wallets, home.run, *home.keys.rglob("*")):
        if path.exists() and not path.is_symlink():
            mode = stat.S_IMODE(path.stat().st_mode)
            if mode & 0o077:
                yield path, mode


def narrow(home: Home) -> str:
    """Take what others may do away from files and folders; says how many."""
    wide = list(_wide(home))
    for path, mode in wide:
        path.chmod(mode & 0o700)
    return f"{len(wide)} modes narrowed"


def _keys(patient: Patient) -> Finding:
    home, missing = patient.home, list[str]()
    votes = patient.config is not None and patient.config.consensus.validator
    if not home.node_key.is_file() or home.node_key.stat().st_size != _SEED_BYTES:
        missing.append(f"{home.node_key} is not {_SEED_BYTES} bytes")
    if not home.wallet_key("default").is_file():
        missing.append(f"{home.wallet_key('default')} is absent")
    if missing:
        fix = "prsm --home DIR restore FILE: a backup becomes a node in another folder"
        return Finding("D-03", "keys", "fault", "; ".join(missing), fix)
    if votes and not home.consensus_keys:  # no backup holds one
        what = f"{home.consensus_key} is absent: the node follows, though consensus.validator is on"
        return Finding("D-03", "keys", "warning", what, _NO_VOTES)
    return Finding("D-03", "keys", "ok", "node, consensus and wallet keys are there")


def _password(patient: Patient) -> Finding:
    named = patient.config.keys.password_file if patient.config else ""
    if not named:
        return Finding(
            "D-04", "password", "note", "the wallet stays locked at start", "prsm wallet unlock"
        )
    path = patient.home.root / Path(named).expanduser()
    fix = "prsm config set keys.password_file FILE"
    if not path.is_file():
        return Finding("D-04", "password", "fault", f"keys.password_file {path} is no file", fix)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        what = f"{path} has mode {mode:04o}, at most 0600"
        return Finding("D-04", "password", "fault", what, f"chmod 600 {path}")
    return Finding("D-04", "password", "ok", f"read from {path} at start")


def _config(patient: Patient) -> Finding:
    if patient.config is None:
        is_toml = _unknown_toml(patient).level != "fault"  # else there is nothing to migrate
        fix = "prsm config migrate, or edit it" if is_toml else "prsm config edit"
        return Finding("D-05", "config", "fault", patient.why_not, fix)
    return Finding("D-05", "config", "ok", f"{patient.home.config} is accepted")


def _genesis(patient: Patient) -> Finding:
    path = patient.home.genesis
    try:
        genesis = from_json(path.read_bytes())
    except (OSError, BadGenesis) as error:
        return Finding(
            "D-06", "genesis", "fault", f"{path}: {error}", "copy the network's genesis.json"
        )
    kind = (
        "a development network, its money is worth nothing" if genesis.development else "a network"
    )
    return Finding("D-06", "genesis", "ok", f"{genesis.name}: {kind}")


def _leftovers(patient: Patient) -> Finding:
    left = _stale(patient.home) if not (patient.running or patient.other) else []
    if left:
        what = f"{', '.join(path.name for path in left)} of a node that ended without a stop"
        return Finding(
            "D-07", "leftovers", "note", what, "prsm doctor --fix, or prsm start", can_fix=True
        )
    return Finding("D-07", "leftovers", "ok", "no files of a dead process")


def _stale(home: Home) -> list[Path]:
    return [path for path in (home.endpoint, home.socket, home.cookie) if path.exists()]


def remove_stale(home: Home) -> str:
    """Remove what a process that is dead left behind; says how much.

    Raises:
        LocalError: a node runs in the folder after all.
    """
    if home.holder() is not None:
        raise LocalError("a node runs in this folder now", hint="prsm status")
    left = _stale(home)
    for path in left:
        path.unlink()
    return f"{len(left)} files removed"


def _unknown_toml(patient: Patient) -> Finding:
    """A configuration that cannot be read at all is said by its line."""
    try:
        tomllib.loads(patient.home.config.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Finding("D-15", "config file", "note", "no config.toml in it", "prsm config show")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        return Finding("D-15", "config file", "fault", str(error)[:200], "prsm config edit")
    return Finding("D-15", "config file", "ok", "it is TOML")


def _pager(patient: Patient) -> Finding:
    """Who is called by alerts can be started."""
    argv, name = patient.config.alerts.notify if patient.config else (), "alerts"
    fix = "prsm config set alerts.notify /usr/local/bin/page"
    if not argv:
        return Finding("D-16", name, "note", "alerts.notify is empty: nobody is called", fix)
    if not os.access(argv[0], os.X_OK) or Path(argv[0]).is_dir():
        what = f"alerts.notify names {argv[0]}, which cannot be started"
        return Finding("D-16", name, "warning", what, fix)
    return Finding("D-16", name, "ok", f"{argv[0]} is called")


def _certificate(patient: Patient) -> Finding:
    """Others still let the door's certificate count, and will tomorrow."""
    number, name = "D-17", "certificate"
    given = patient.config.rpc.tls_cert if patient.config else ""
    if not given:
        return Finding(number, name, "ok", "rpc.tls_cert is empty: no TLS")
    fix = f"put a renewed pair at {given} and its key: a node that runs reads it again"
    try:
        left_s = read_end_s(patient.home.root / given) - patient.now_ms / 1000
    except (OSError, ValueError) as error:
        return Finding(number, name, "fault", f"{given} cannot be read: {error}"[:200], fix)
    days = f"{abs(left_s) / _DAY_S:.1f} days"
    if left_s <= 0:
        return Finding(number, name, "fault", f"{given} ended {days} ago: nobody trusts it", fix)
    level: Level = "warning" if left_s < CERTIFICATE_S_MIN else "note"
    if left_s < _CERTIFICATE_NOTE_S:
        return Finding(number, name, level, f"{given} ends in {days}", fix)
    return Finding(number, name, "ok", f"{given} is good for {days}")


CHECKS: Final[tuple[Check, ...]] = (
    _folder,
    _modes,
    _keys,
    _password,
    _config,
    _genesis,
    _leftovers,
    _unknown_toml,
    _pager,
    _certificate,
)
