"""`prsm rpc console` and `prsm rpc subscribe`: calls line by line, and rows as they come.

Knows: the method table, the topics. Must not know: any method.
"""

import difflib
import shlex
import sys
import time
from collections.abc import Iterator

import click
import msgspec

from prsm.node.cli.failures import Usage, report
from prsm.node.cli.from_spec import parse_values, typed_values
from prsm.node.cli.readable import cell
from prsm.node.cli.session import Session, pass_session
from prsm.node.cli.words import completing
from prsm.node.rpc.client import RpcError
from prsm.node.rpc.methods.subscriptions import TOPICS
from prsm.node.rpc.methods.table import METHODS
from prsm.node.rpc.sdk.events import Events
from prsm.node.rpc.sdk.feed import Event, Feed, row_type
from prsm.node.rpc.sdk.reach import habits_of
from prsm.protocol.errors import PrsmError

_PROMPT = "prsm> "
_HELP = "METHOD [NAME=VALUE]…, methods [TEXT], help METHOD, exit"


@click.command("subscribe")
@click.argument("topic", shell_complete=completing(lambda: TOPICS))
@click.argument("wanted", nargs=-1, metavar="[FIELD=VALUE]…")
@click.option("--resume-from", type=click.IntRange(0), help="Number of the last row seen; 0: all.")
@click.option("--count", "-n", type=click.IntRange(1), help="End after so many rows.")
@pass_session
def subscribe(
    session: Session,
    /,
    *,
    topic: str,
    wanted: tuple[str, ...],
    resume_from: int | None,
    count: int | None,
) -> None:
    """Rows of TOPIC as they come, one a line, until Ctrl-C or the end of --timeout.

    Topics: heads, rounds, votes, peers, jobs, tokens, transfers, models, logs, metrics, alerts.
    FIELD=VALUE leaves out rows that have another value. A connection that breaks is opened again
    behind the last row seen.
    """
    if topic not in TOPICS:
        near = difflib.get_close_matches(topic, TOPICS, n=1, cutoff=0.5)
        hint = f"did you mean `{near[0]}`?" if near else f"topics: {', '.join(TOPICS)}"
        raise Usage(f"no topic {topic[:40]!r}", hint=hint)
    filters = parse_values(wanted) or None
    feed = Feed(topic, wanted=filters, resume_from=resume_from, row=row_type(topic))
    events = Events(feed, lambda: session.target, habits_of(session.timeout_s, None))
    with events:
        for event in _rows(events, count, session.limit_s):
            _print_row(session, event)


def _rows(
    events: "Events[object]", count: int | None, limit_s: float | None
) -> Iterator[Event[object]]:
    """Rows until enough came or the time is over."""
    deadline = None if limit_s is None else time.monotonic() + limit_s
    given = 0
    while count is None or given < count:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        try:
            yield events.next(left)
        except RpcError as error:
            if error.reason == "deadline_passed" and deadline is not None:
                return
            raise
        given += 1


def _print_row(session: Session, event: Event[object]) -> None:
    if session.json:
        row = {"seq": event.seq, "missed": event.missed, "result": event.result}
        print(msgspec.json.encode(row).decode(), flush=True)
        return
    if event.missed:
        session.note(f"{event.missed} rows before this one are kept no more")
    print(f"{event.seq}\t{cell('', msgspec.to_builtins(event.result))}", flush=True)


@click.command("console")
@pass_session
def console(session: Session) -> None:
    """Calls line by line: METHOD NAME=VALUE…; `help METHOD`, `methods TEXT`, `exit`.

    On a terminal Tab completes names. From a pipe each line is a call; with --json each answer is
    one line.
    """
    if session.is_terminal:
        _complete_names()
        session.note(f"{len(METHODS)} methods; {_HELP}")
    for line in _lines(session):
        try:
            words = shlex.split(line)
        except ValueError as error:
            report(Usage(f"{line[:60]!r}: {error}", hint=_HELP), as_json=session.json)
            continue
        if words in (["exit"], ["quit"]):
            return
        if words:
            _answer_line(session, words)


def _answer_line(session: Session, words: list[str]) -> None:
    """Answer one line; an error is shown and the next line may come."""
    name, rest = words[0], words[1:]
    try:
        if name == "methods":
            text = rest[0].lower() if rest else ""
            found = [m for m in METHODS.values() if text in m.name.lower() + m.summary.lower()]
            rows = [{"method": m.name, "scope": str(m.scope), "summary": m.summary} for m in found]
            session.answer_value({"items": rows})
        elif name == "help":
            session.answer_value(_described(rest))
        else:
            method = METHODS.get(name)
            params = typed_values(method, rest) if method else parse_values(rest)
            session.answer(session.call(name, params or None))
    except (PrsmError, RpcError, click.ClickException) as error:
        report(error, as_json=session.json)
        session.close()


def _described(words: list[str]) -> dict[str, object]:
    """What a method takes."""
    if not words:
        return {"say": _HELP}
    if words[0] not in METHODS:
        near = difflib.get_close_matches(words[0], METHODS, n=1)
        raise Usage(
            f"no method {words[0][:60]!r}", hint=f"did you mean {near[0]}?" if near else "methods"
        )
    method = METHODS[words[0]]
    fields = {
        field.name: "needed" if field.required else cell("", msgspec.to_builtins(field.default))
        for field in msgspec.structs.fields(method.params)
    }
    return {"method": method.name, "scope": str(method.scope), "about": method.summary, **fields}


def _lines(session: Session) -> Iterator[str]:
    if not session.is_terminal:
        yield from (line.rstrip("\n") for line in sys.stdin)
        return
    while True:
        try:
            yield input(_PROMPT)
        except EOFError:
            session.note("")
            return


def _complete_names() -> None:
    """Have Tab complete names of methods, and of the parameters of the one that is typed."""
    try:
        import readline
    except ImportError:  # a Python without it: all but Tab works
        return

    def complete(text: str, state: int) -> str | None:
        found = completions(readline.get_line_buffer(), text)[state : state + 1]
        return next((one if one.endswith("=") else f"{one} " for one in found), None)

    readline.set_completer_delims(" \t")
    readline.set_completer(complete)
    readline.parse_and_bind("tab: complete")


def completions(line: str, text: str) -> list[str]:
    """What may stand where `text` stands at the end of a line."""
    words = line.split()
    typed = len(words) - (0 if line.endswith(" ") else 1)
    if typed <= 0:
        return [name for name in (*METHODS, "methods", "help", "exit") if name.startswith(text)]
    if words[0] == "help":
        return [name for name in METHODS if name.startswith(text)]
    method = METHODS.get(words[0])
    names = method.params.__struct_fields__ if method else ()
    return [f"{name}=" for name in names if f"{name}=".startswith(text)]
