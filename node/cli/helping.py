"""`prsm explain`, `help`, `completion`, `man`: what the program says about itself, offline.

All of it is made from the tables of commands and errors, and from the topics. Knows: click, the
error registry. Must not know: a running node.
"""

import difflib
from collections.abc import Iterator
from typing import Any, Final

import click
from click.shell_completion import get_completion_class

from prsm.node.cli.failures import Usage
from prsm.node.cli.session import Session, pass_session
from prsm.node.cli.topics import TOPICS
from prsm.node.cli.words import completing
from prsm.node.rpc.reasons import BY_NUMBER, REGISTRY, Entry
from prsm.node.version import VERSION

_VARIABLE: Final = "_PRSM_COMPLETE"  # as click derives it from the program's name


@click.command("explain", context_settings={"ignore_unknown_options": True})  # -32602
@click.argument("code", shell_complete=completing(lambda: REGISTRY))
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


@click.command("help")
@click.argument(
    "words", nargs=-1, metavar="[TOPIC|COMMAND]...", shell_complete=completing(lambda: TOPICS)
)
@pass_session
def help_(session: Session, words: tuple[str, ...]) -> None:
    """A topic in a page of text, or the help of a command; without either the list of topics."""
    if not words:
        rows = [{"topic": name, "about": text.partition("\n")[0]} for name, text in TOPICS.items()]
        session.answer_value({"items": rows})
        session.note("read one with: prsm help TOPIC; of a command: prsm help COMMAND")
        return
    name = " ".join(words).lower()
    if name in TOPICS:
        document = {"topic": name, "text": TOPICS[name]}
    else:
        document = {"topic": name, "text": _command_help(words, TOPICS)}
    session.answer_value(document, lambda shown: print(shown["text"]))


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@pass_session
def completion(session: Session, shell: str) -> None:
    """The completion script of SHELL.

    bash: eval "$(prsm completion bash)" in ~/.bashrc.
    zsh: eval "$(prsm completion zsh)" in ~/.zshrc.
    fish: prsm completion fish > ~/.config/fish/completions/prsm.fish
    """
    maker = get_completion_class(shell)
    assert maker is not None
    made = maker(_root(), {}, "prsm", _VARIABLE)
    # Not `made.source()`: for bash it starts bash to ask its version.
    text = made.source_template % made.source_vars()
    session.answer_value({"shell": shell, "script": text}, lambda shown: print(shown["script"]))


@click.command("man")
@pass_session
def man(session: Session) -> None:
    """The manual page of all commands; read it with `prsm man | man -l -`."""
    text = "\n".join(_page())
    session.answer_value({"name": "prsm", "roff": text}, lambda shown: print(shown["roff"]))


def _find(code: str) -> list[Entry]:
    word = code.strip().lower().removeprefix("prsm-")
    if word in REGISTRY:
        return [REGISTRY[word]]
    if word.isdecimal() and int(word) in BY_NUMBER:
        return [BY_NUMBER[int(word)]]
    return [entry for entry in REGISTRY.values() if str(entry.code) == word]


def _root() -> click.Group:
    command = click.get_current_context().find_root().command
    assert isinstance(command, click.Group)
    return command


def _command_help(words: tuple[str, ...], topics: dict[str, str]) -> str:
    command: click.Command = _root()
    ctx = click.Context(command, info_name="prsm")
    for word in words:
        inner = command.get_command(ctx, word) if isinstance(command, click.Group) else None
        if inner is None:
            names = [*topics, *_root().list_commands(ctx)]
            near = difflib.get_close_matches(words[0], names, n=1, cutoff=0.5)
            hint = f"did you mean `prsm help {near[0]}`?" if near else "prsm help"
            raise Usage(f"no topic or command {' '.join(words)[:60]!r}", hint=hint)
        command, ctx = inner, click.Context(inner, info_name=word, parent=ctx)
    return command.get_help(ctx)


def leaves(
    group: click.Group, parent: click.Context
) -> Iterator[tuple[click.Context, click.Command]]:
    """Every command below a group, with a context that knows its words."""
    for name in group.list_commands(parent):
        command = group.get_command(parent, name)
        if command is None:
            continue
        ctx = click.Context(command, info_name=name, parent=parent)
        if isinstance(command, click.Group):
            yield from leaves(command, ctx)
        else:
            yield ctx, command


def _page() -> Iterator[str]:
    """The manual page, in roff (man(7))."""
    root = _root()
    ctx = click.Context(root, info_name="prsm")
    yield f'.TH PRSM 1 "" "prsm {VERSION}" "PRSM"'
    yield from (".SH NAME", r"prsm \- " + _roff(root.help or ""))
    yield from (".SH SYNOPSIS", r".B prsm", r"[\fIoptions\fR] \fIcommand\fR [\fIarguments\fR]")
    yield from (".SH OPTIONS", _roff(root.epilog or ""))
    yield from _options(ctx, root)
    yield ".SH COMMANDS"
    for inner, command in leaves(root, ctx):
        usage = " ".join(command.collect_usage_pieces(inner))
        yield from (".SS " + _roff(f"{inner.command_path} {usage}"), _roff(_first(command)))
        yield from _options(inner, command)
    yield ".SH EXIT STATUS"
    for code, meaning in _EXITS.items():
        yield from (".TP", str(code), _roff(meaning))


_EXITS: Final = {
    0: "done",
    1: "failed",
    2: "usage",
    3: "node unreachable",
    4: "unauthorised or forbidden",
    5: "deadline passed",
    6: "verification failed",
    130: "Ctrl-C",
}


def _options(ctx: click.Context, command: click.Command) -> Iterator[str]:
    for param in command.get_params(ctx):
        record: Any = param.get_help_record(ctx)
        if record is not None:
            yield from (".TP", rf"\fB{_roff(record[0])}\fR", _roff(record[1]))


def _first(command: click.Command) -> str:
    """The help of a command as one paragraph."""
    return " ".join((command.help or "").split())


def _roff(text: str) -> str:
    """Text that troff takes as text."""
    plain = " ".join(text.split()).replace("\\", r"\e").replace("-", r"\-")
    return r"\&" + plain if plain[:1] in {".", "'"} else plain
