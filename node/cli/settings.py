"""`prsm config` and `prsm explain`: what is set, where it comes from, what an error means.

Knows: the configuration and the error registry. Must not know: a running node.
"""

import difflib
import os

import click
import msgspec

from prsm.node.cli.failures import Usage
from prsm.node.cli.session import Session, pass_session
from prsm.node.cli.words import Words
from prsm.node.config import Loaded, describe, load, validate
from prsm.node.rpc.reasons import BY_NUMBER, REGISTRY, Entry

config = Words("config", help="Show and check the configuration.")


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
    rows = [
        {"key": key, "value": value, "origin": loaded.origin[key], "about": describe(key)}
        for key, value in values.items()
    ]
    session.answer_value({"items": rows} if origin else values)


@config.command("validate")
@pass_session
def validate_config(session: Session) -> None:
    """Check config.toml and the environment; says what is wrong and what to write."""
    loaded = _load(session)
    validate(loaded.config)
    count = sum(one != "default" for one in loaded.origin.values())
    session.answer_value({"valid": True, "file": str(session.home.config), "set": count})


@click.command("explain", context_settings={"ignore_unknown_options": True})  # -32602
@click.argument("code")
@pass_session
def explain(session: Session, code: str) -> None:
    """What CODE (PRSM-1003, 1003, -32602 or a reason word) means and what to do."""
    found = _find(code)
    if not found:
        near = difflib.get_close_matches(code.lower(), REGISTRY, n=1)
        hint = f"did you mean `prsm explain {near[0]}`?" if near else "prsm explain PRSM-1004"
        raise Usage(f"no error {code[:40]!r}", hint=hint)
    rows = [
        {
            "prsm_code": entry.prsm_code,
            "reason": entry.reason,
            "code": entry.code,
            "exit_code": int(entry.exit_code),
            "retryable": entry.retryable,
            "what": entry.title,
            "why": entry.why,
            "fix": entry.fix,
        }
        for entry in found
    ]
    session.answer_value(rows[0] if len(rows) == 1 else {"items": rows})


def _load(session: Session) -> Loaded:
    return load(session.home.config, environ=os.environ)


def _flat(loaded: Loaded) -> dict[str, object]:
    tables: dict[str, dict[str, object]] = msgspec.to_builtins(loaded.config)
    return {f"{name}.{key}": one for name, table in tables.items() for key, one in table.items()}


def _find(code: str) -> list[Entry]:
    word = code.strip().lower().removeprefix("prsm-")
    if word in REGISTRY:
        return [REGISTRY[word]]
    if word.isdecimal() and int(word) in BY_NUMBER:
        return [BY_NUMBER[int(word)]]
    return [entry for entry in REGISTRY.values() if str(entry.code) == word]
