"""`prsm config`: what is set and where it comes from; changes of config.toml that keep comments.

Every change is read back by the loader before the file is replaced. Knows: the configuration,
tomlkit. Must not know: what a key does to a node.
"""

import contextlib
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from prsm.node.cli.failures import Usage
from prsm.node.cli.session import Session, pass_session
from prsm.node.cli.turn import turn
from prsm.node.cli.words import Words, completing
from prsm.node.config import (
    KEYS,
    RETIRED,
    ConfigError,
    Loaded,
    describe,
    load,
    nearest_key,
    read_text,
    validate,
)
from prsm.node.home import write_private
from prsm.node.rpc.client import RpcError
from prsm.protocol.errors import PrsmError

_SECRET: Final = frozenset(
    ("keys.password_file",)
)  # named, never shown by `diff` of a running node

config = Words("config", help="Show, check and change the configuration.")


@config.command("show")
@click.option("--origin", is_flag=True, help="Say where each value comes from.")
@pass_session
def show_config(session: Session, *, origin: bool) -> None:
    """Every key with its value."""
    loaded = _load(session)
    values = _flat(loaded)
    if session.json and not origin:
        session.answer_value(msgspec.to_builtins(loaded.config))
        return
    rows = [_row(session, loaded, key, value) for key, value in values.items()]
    session.answer_value({"items": rows} if origin else values)


@config.command("get")
@click.argument("key", shell_complete=completing(lambda: KEYS))
@pass_session
def get_config(session: Session, key: str) -> None:
    """The value of KEY, such as log.level, and where it comes from."""
    loaded = _load(session)
    _known(key)
    row = _row(session, loaded, key, _flat(loaded)[key])
    session.answer_value(row, lambda document: print(_as_text(document["value"])))


@config.command("set")
@click.argument("key", shell_complete=completing(lambda: KEYS))
@click.argument("value")
@click.option("--dry-run", is_flag=True, help="Check it and write nothing.")
@pass_session
def set_config(session: Session, key: str, value: str, *, dry_run: bool) -> None:
    """Write KEY = VALUE into config.toml; comments and order stay.

    A list is written with commas, an empty one as "".
    """
    _known(key)
    before = _before(session, key)
    loaded = _replace(session, {key: read_text(key, value)}, dry_run=dry_run)
    _answer_change(session, key, before, loaded, written=not dry_run)


@config.command("unset")
@click.argument("key", shell_complete=completing(lambda: KEYS))
@pass_session
def unset_config(session: Session, key: str) -> None:
    """Take KEY out of config.toml: that of the machine holds again, else the default."""
    _known(key)
    before = _before(session, key)
    loaded = _replace(session, {key: None}, dry_run=False)
    _answer_change(session, key, before, loaded, written=True)


@config.command("validate")
@pass_session
def validate_config(session: Session) -> None:
    """Check config.toml, that of the machine and the environment; says what is wrong."""
    loaded = _load(session)
    validate(loaded.config)
    count = sum(one != "default" for one in loaded.origin.values())
    files = {"file": str(session.home.config), "system": loaded.system and str(loaded.system)}
    session.answer_value({"valid": True, **files, "set": count})


@config.command("diff")
@pass_session
def diff_config(session: Session) -> None:
    """What is set otherwise than by default, and otherwise than in the running node."""
    loaded, plain = _load(session), _flat(load(None))
    running = _running(session)
    rows = []
    for key, value in _flat(loaded).items():
        now = running.get(key, value)
        if loaded.origin[key] != "default" or now != value:
            row = {"key": key, "value": value, "default": plain[key], "origin": loaded.origin[key]}
            rows.append({**row, "running": now if running else None})
    session.answer_value({"items": rows})
    if any(row["running"] not in (None, row["value"]) for row in rows):
        session.note("the running node has other values until: prsm restart")


@config.command("migrate")
@click.option("--dry-run", is_flag=True, help="Say what would change and write nothing.")
@pass_session
def migrate_config(session: Session, *, dry_run: bool) -> None:
    """Bring config.toml of an older version to this one; the old file is kept beside it.

    Renamed keys are renamed. Keys this version does not know become comments.
    """
    import tomlkit

    path = session.home.config
    with turn(session.home):
        raw = _raw(path)
        document, rows = _parsed(path, raw), list[dict[str, str]]()
        for section, table in list(document.items()):
            names = list(table) if isinstance(table, Mapping) else []
            for name in names:
                key = f"{section}.{name}"
                if key not in KEYS:
                    rows.append(_retire(document, section, name))
        text = tomlkit.dumps(document)
        _check_text(text)
        kept = path.with_name("config.toml.before")
        if rows and not dry_run:
            write_private(kept, raw.encode())
            write_private(path, text.encode())
    written = bool(rows) and not dry_run
    document_ = {"file": str(path), "written": written, "kept": str(kept) if written else None}
    session.answer_value({**document_, "items": rows})


@config.command("edit")
@pass_session
def edit_config(session: Session) -> None:
    """Open a copy of config.toml in EDITOR; it replaces the file only if it is accepted.

    A text that was refused is kept, and opened again the next time, unless the file has changed.
    A file that changes while the editor is open stays as it is, and the text is kept beside it.
    """
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    if not editor or not (sys.stdin.isatty() or session.yes):
        raise Usage(
            "config edit needs EDITOR and a terminal",
            hint="export EDITOR=nano, or: prsm config set KEY VALUE",
        )
    path = session.home.config
    before = _raw(path)
    copy = path.with_name("config.toml.edited")
    if is_kept := copy.exists():
        _refuse_newer(path, copy)
        session.note(f"it goes on with your text in {copy}; delete that to begin anew")
    else:
        write_private(copy, before.encode())
    try:
        code = _edited(editor, copy)
    except Usage:
        if not is_kept:
            copy.unlink()
        raise
    with turn(session.home):
        after = _edits(path, before, copy)
        if code:
            hint = f"your text is in {copy}" if after is not None else "nothing is changed"
            raise Usage(f"{editor} ended with {code}", hint=hint)
        try:
            _check_text(_raw(path) if after is None else after)
        except PrsmError as error:
            hint = f"your text is kept in {copy}; {error.hint}" if after is not None else error.hint
            raise Usage(error.what, hint=hint) from error
        if after is not None:
            write_private(path, after.encode())
            copy.unlink()
    session.answer_value({"file": str(path), "changed": after is not None})


def _edits(path: Path, before: str, copy: Path) -> str | None:
    """The text that an editor has left; None, and no copy, if nothing in it is the person's.

    Raises:
        Usage: it is gone, or the file is not any more what was copied.
    """
    if not copy.exists():  # an empty text would be accepted
        raise Usage(f"{copy} is gone, nothing is changed", hint="save your text where it was")
    after = _raw(copy)
    if after == before:
        copy.unlink()
        return None
    if _raw(path) != before:  # by somebody else, while the editor was open
        os.utime(copy, ns=(0, 0))  # older than that change, the next time as well
        raise _newer(path, copy)
    return after


def _refuse_newer(path: Path, kept: Path) -> None:
    """Raise if the file was changed after a text of it was begun: the change would be undone."""
    if path.exists() and path.stat().st_mtime_ns > kept.stat().st_mtime_ns:
        raise _newer(path, kept)


def _newer(path: Path, kept: Path) -> Usage:
    return Usage(
        f"{path} has changed since your text in {kept} was begun",
        hint=f"put what you still want into a new one, once you have moved or deleted {kept}",
    )


def _edited(editor: str, copy: Path) -> int:
    """What the editor ended with.

    Raises:
        Usage: it could not be started.
    """
    try:
        return subprocess.run([*shlex.split(editor), str(copy)], check=False).returncode  # noqa: S603 - the person's own
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise Usage(f"{editor} cannot be started: {why}", hint="export EDITOR=nano") from error


def _load(session: Session) -> Loaded:
    return load(session.home.config, environ=os.environ)


def _flat(loaded: Loaded) -> dict[str, Any]:
    # As JSON has it: a running node's values come that way, lists and not tuples.
    raw = msgspec.json.encode(loaded.config)
    tables = msgspec.json.decode(raw, type=dict[str, dict[str, object]])
    return {f"{name}.{key}": one for name, table in tables.items() for key, one in table.items()}


def _before(session: Session, key: str) -> object:
    """The value before a change; None where the file is refused, which the change may cure."""
    with contextlib.suppress(ConfigError):
        return _flat(_load(session))[key]
    return None


def _row(session: Session, loaded: Loaded, key: str, value: object) -> dict[str, object]:
    origin = loaded.origin[key]
    names = {
        "env": _variable(key),
        "file": str(session.home.config),
        "system": str(loaded.system),
        "profile": loaded.config.node.profile,
    }
    told = {"key": key, "value": value, "origin": origin, "named": names.get(origin, "")}
    return {**told, "about": describe(key)}


def _variable(key: str) -> str:
    return f"PRSM_{key.upper().replace('.', '__', 1)}"


def _known(key: str) -> None:
    if key not in KEYS:
        near = nearest_key(key)
        hint = f"did you mean {near!r}?" if near else "prsm config show lists all keys"
        raise Usage(f"no key {key[:80]!r}", hint=hint)


def _as_text(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case list():
            return ",".join(str(one) for one in value)
        case _:
            return str(value)


def _raw(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise Usage(f"{path} cannot be read: {error}", hint="prsm init makes one") from error


def _parsed(path: Path, raw: str) -> Any:  # noqa: ANN401 - tomlkit's
    """The document of a text.

    Raises:
        Usage: it is no TOML.
    """
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        return tomlkit.parse(raw)
    except TOMLKitError as error:
        raise Usage(f"{path} is no TOML: {error}", hint="prsm config edit") from error


def _replace(session: Session, changes: Mapping[str, object], *, dry_run: bool) -> Loaded:
    """Change keys of the file, None takes one out; what is set with them."""
    import tomlkit

    session.home.check()
    path = session.home.config
    with turn(session.home):
        document = _parsed(path, _raw(path))
        for key, value in changes.items():
            section, _, name = key.partition(".")
            if section not in document:
                document[section] = tomlkit.table()
            table = document[section]
            if not isinstance(table, MutableMapping):
                raise Usage(f"{path} has {section!r} outside a section", hint="prsm config edit")
            if value is None:
                table.pop(name, None)
            else:
                table[name] = list(value) if isinstance(value, tuple) else value
        text = tomlkit.dumps(document)
        loaded = _check_text(text)
        if not dry_run:
            write_private(path, text.encode())
    return loaded


def _check_text(text: str) -> Loaded:
    """Read a text as the loader would read the file."""
    with tempfile.NamedTemporaryFile(suffix="-config.toml") as file:  # 0600: it may name secrets
        file.write(text.encode())
        file.flush()
        return load(Path(file.name), environ=os.environ)


def _retire(document: Any, section: str, name: str) -> dict[str, str]:  # noqa: ANN401 - tomlkit's
    """Rename a key, or turn it into a comment; what was done."""
    import tomlkit

    key = f"{section}.{name}"
    table = document[section]
    value = table.pop(name)
    after = RETIRED.get(key)
    if after:
        new_section, _, new_name = after.partition(".")
        if new_section not in document:
            document[new_section] = tomlkit.table()
        document[new_section].setdefault(new_name, value)
        return {"key": key, "done": "renamed", "to": after}
    shown = value.as_string() if hasattr(value, "as_string") else str(value)
    table.add(tomlkit.comment(f"{name} = {shown.splitlines()[0]}  (not a key of this version)"))
    if section not in {each.partition(".")[0] for each in KEYS}:
        del document[section]
    return {"key": key, "done": "left out" if key in RETIRED else "unknown: left out", "to": ""}


def _running(session: Session) -> dict[str, object]:
    """Values of the running node; empty if none answers."""
    session.is_patient = False
    try:
        rows = session.ask("node_getConfig")["items"]
    except (PrsmError, RpcError):
        return {}
    return {row["key"]: row["value"] for row in rows if row["key"] not in _SECRET}


def _answer_change(
    session: Session, key: str, before: object, loaded: Loaded, *, written: bool
) -> None:
    now, origin = _flat(loaded)[key], loaded.origin[key]
    row = {"key": key, "value": now, "was": before, "origin": origin}
    session.answer_value({**row, "file": str(session.home.config), "written": written})
    if written and origin in {"env", "flag"}:
        session.note(f"the environment says otherwise: {_variable(key)}")
    holder = session.home.holder()
    if written and holder is not None and not holder.work:
        session.note("the running node takes it with: prsm restart")
