"""`prsm rpc`: any method by name.

Knows: the method table. Must not know: any method.
"""

import difflib
import sys
from importlib import import_module
from typing import Final

import click
import msgspec

from prsm.node.cli.failures import Usage
from prsm.node.cli.from_spec import parse_values, typed_values
from prsm.node.cli.session import Session, pass_session
from prsm.node.cli.words import Words, completing, override
from prsm.node.rpc.methods.table import METHODS
from prsm.node.rpc.openrpc import document
from prsm.protocol.jsontext import UNREADABLE


class _Rpc(Words):
    """Loads what subscribes and what reads lines only when its word is typed."""

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names, those of the other module too."""
        return [*super().list_commands(ctx), *_LATE]

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Find a command here, or in the other module."""
        if cmd_name in _LATE:
            command: click.Command = getattr(import_module(_CONSOLE), cmd_name)
            return command
        return super().get_command(ctx, cmd_name)


_PARAMS_BYTES_MAX: Final = 64 * 1024 * 1024
_CONSOLE: Final = "prsm.node.cli.console"
_LATE: Final = ("subscribe", "console")

rpc = _Rpc("rpc", help="Call any method, hear of any topic.")


@rpc.command("call")
@click.argument("method", shell_complete=completing(lambda: METHODS))
@click.argument("words", nargs=-1, metavar="[NAME=VALUE]…")
@pass_session
def call(session: Session, method: str, words: tuple[str, ...]) -> None:
    """Call METHOD with parameters; `-` reads them as JSON from standard input."""
    known = METHODS.get(method)
    if words == ("-",):
        params = _read_params()
    elif known is not None:
        params = typed_values(known, words)
    else:
        params = parse_values(words)
    if known is not None:
        session.timeout_s = max(session.timeout_s, known.deadline_ms / 1000)
    session.answer(session.call(method, params or None))


def _read_params() -> dict[str, object]:
    try:
        return msgspec.json.decode(sys.stdin.buffer.read(_PARAMS_BYTES_MAX), type=dict[str, object])
    except UNREADABLE as error:
        raise Usage(
            f"standard input is no JSON object: {error}", hint='such as {"height": 1}'
        ) from error


@rpc.command("methods")
@click.argument("name", default="", shell_complete=completing(lambda: METHODS))
@pass_session
def methods(session: Session, name: str) -> None:
    """List the methods of this client, or describe the one called NAME."""
    if not name:
        rows = [
            {"method": m.name, "scope": str(m.scope), "summary": m.summary}
            for m in METHODS.values()
        ]
        session.answer_value({"items": rows})
        return
    if name not in METHODS:
        near = difflib.get_close_matches(name, METHODS, n=1)
        hint = f"did you mean `prsm rpc methods {near[0]}`?" if near else "prsm rpc methods"
        raise Usage(f"no method {name[:60]!r}", hint=hint)
    found = document({name: METHODS[name]}, version="")
    entries = found["methods"]
    assert isinstance(entries, list)
    session.answer_value(entries[0])


@rpc.command("discover")
@pass_session
def discover(session: Session) -> None:
    """Print the node's OpenRPC document."""
    raw = session.call("rpc_discover")
    session.answer(
        raw, lambda value: print(msgspec.json.format(msgspec.json.encode(value)).decode())
    )
