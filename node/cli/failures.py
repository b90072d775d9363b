"""Errors for people: what, why, what to type, the PRSM number; and the exit code.

Knows: the error registry, click's exceptions. Must not know: which command failed.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import click
import msgspec

from prsm.node.rpc.client import RpcError
from prsm.node.rpc.errors import error_data
from prsm.node.rpc.reasons import Entry, Exit, entry_for
from prsm.protocol.errors import LocalError, PrsmError


class Usage(LocalError):
    """A command line nobody understands."""

    reason = "usage"


class OutputLost(LocalError):
    """Standard output, or a file of the command, takes no more."""

    reason = "output_lost"


class Fault(PrsmError):
    """A bug of ours."""

    reason = "internal"


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as it is shown."""

    what: str
    why: str
    hint: str
    entry: Entry
    code: int
    data: dict[str, object]

    @classmethod
    def of_node(cls, error: RpcError) -> Self:
        """What the node answered."""
        entry = entry_for(error.reason)
        return cls(error.what, error.why, error.hint, entry, error.code, error.data)

    @classmethod
    def of_client(cls, error: PrsmError) -> Self:
        """What failed on this side."""
        entry = entry_for(error.reason)
        data = error_data(error, trace_id="")
        return cls(error.what, entry.why, error.hint or entry.fix, entry, entry.code, data)


def report(error: Exception, *, as_json: bool, log: Path | None = None) -> Exit:
    """Show an error on standard error, with `--json` also as the one document; its exit code.

    Args:
        error: what went wrong.
        as_json: it is the one document too.
        log: of the node that was asked, if it has one here.
    """
    if isinstance(error, click.exceptions.NoArgsIsHelpError) and not as_json:
        click.echo(error.format_message(), err=True)  # whoever types a noun alone asks what it can
        return Exit.USAGE
    failure = _failure(error)
    trace = str(failure.data.get("trace_id", ""))
    number = failure.entry.prsm_code
    # A person who typed it wrong finds nothing in the log.
    is_logged = log is not None and failure.entry.exit_code is not Exit.USAGE
    lines = (
        f"error: {failure.what}",
        f"why:   {failure.why}",
        f"try:   {failure.hint}",
        f"{number}  prsm explain {number}"
        + (f"  trace {trace}" if trace else "")
        + (f"  log {log}" if is_logged else ""),
    )
    click.echo("\n".join(_printable(line) for line in lines), err=True)
    if as_json:
        fault = {"code": failure.code, "message": failure.what, "data": failure.data}
        click.echo(msgspec.json.encode({"error": fault}).decode())
    return failure.entry.exit_code


def _failure(error: Exception) -> Failure:
    if isinstance(error, RpcError):
        return Failure.of_node(error)
    if isinstance(error, PrsmError):
        return Failure.of_client(error)
    if isinstance(error, click.ClickException):
        ctx = error.ctx if isinstance(error, click.UsageError) else None
        path = ctx.command_path if ctx is not None else "prsm"
        what = error.format_message().rstrip(".") or "the command line is not complete"
        if isinstance(error, click.exceptions.NoArgsIsHelpError) or what == "Missing command":
            what = f"{path} needs a command"
        return Failure.of_client(Usage(what, hint=f"{path} --help"))
    text = f"the client failed: {type(error).__name__}: {str(error)[:200]}"
    return Failure.of_client(
        Fault(text, hint="run it again with --verbose and report what it says")
    )


def _printable(line: str) -> str:
    return line if line.isprintable() else ascii(line)[1:-1]
