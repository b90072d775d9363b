"""`prsm`: the command line. Groups are loaded when their word is typed, all else when it is used.

Global options may stand before or after the command. An error is three lines on standard error
(what, why, what to type) and its PRSM number; the exit code is that of the error registry.

Knows: words, options, exit codes. Must not know: what a command does.
"""

import errno
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from prsm.node.cli.words import Number, Words, override

# word -> (module, attribute, one line for the list)
COMMANDS: Final[dict[str, tuple[str, str, str]]] = {
    "init": ("lifecycle", "init", "Make a node's folder: keys, configuration, genesis."),
    "start": ("running", "start", "Run the node."),
    "stop": ("running", "stop", "End the node gracefully."),
    "restart": ("running", "restart", "End the node and start it again."),
    "status": ("condition", "status", "How the node is."),
    "run": ("verbs", "run", "Run a model over rows of text or tensors."),
    "ask": (
        "asking",
        "ask",
        "What in texts of yours is nearest to a question.",
    ),
    "quote": ("nouns", "quote", "Prices workers bind themselves to."),
    "generate": ("generate", "generate", "Let a model go on from a prompt, token by token."),
    "generation": ("generations", "generation", "Texts under way: their steps, their end."),
    "model": ("models", "model", "Add, fetch, check and keep models."),
    "dataset": ("nouns", "dataset", "Labelled rows that models are evaluated on."),
    "task": ("models", "task", "Long work of this node: pulls, checks."),
    "job": ("jobs", "job", "Jobs of ours."),
    "plan": ("plans", "plan", "Small graphs of work under one escrow."),
    "worker": ("nouns", "worker", "What this node does for others, and what it is paid."),
    "serve": ("nouns", "serve", "Small requests to warm workers, and their tabs."),
    "proof": ("proof", "proof", "Show and check receipts."),
    "wallet": ("nouns", "wallet", "Keys, balances, payments."),
    "tenant": ("nouns", "tenant", "Who shares this node, and within which limits."),
    "audit": ("nouns", "audit", "Who told this node what."),
    "chain": ("nouns", "chain", "Blocks, transactions, validators."),
    "validator": ("operator", "validator", "The stake of this node's operator."),
    "governance": ("nouns", "governance", "Parameters, proposals, votes."),
    "consensus": ("agreement", "consensus", "Votes of this validator."),
    "net": ("nouns", "net", "Peers."),
    "storage": ("nouns", "storage", "Blocks on disk."),
    "backup": ("archive", "backup", "Seal the node's ledger and keys into one file."),
    "restore": ("archive", "restore", "Make a node's folder of a backup again, or check one."),
    "token": ("tokens", "token", "Who else may call this node, and what they may do."),
    "dashboard": ("tokens", "dashboard", "Open the node's page in a browser."),
    "config": ("settings", "config", "Show, check and change the configuration."),
    "rpc": ("raw", "rpc", "Call any method."),
    "mcp": ("mcp", "mcp", "This node as tools for clients of the Model Context Protocol."),
    "sandbox": ("sandbox", "sandbox", "What a worker of this machine can and cannot do."),
    "explain": ("helping", "explain", "What an error means and what to do."),
    "help": ("helping", "help_", "A topic in a page of text, offline; or a command's help."),
    "doctor": ("doctoring", "doctor", "What is wrong, and what to type."),
    "logs": ("loglines", "logs", "What the node wrote."),
    "top": ("top", "top", "The node as it works, once a second."),
    "bench": ("bench", "bench", "What this node and machine can do, measured now."),
    "debug": ("bundle", "debug", "One file that shows others what is wrong."),
    "upgrade": ("doctoring", "upgrade", "Whether this version fits the folder and the network."),
    "where": ("lifecycle", "where", "Where everything lies."),
    "version": ("lifecycle", "version", "Versions of client and node."),
    "completion": ("helping", "completion", "Completion for bash, zsh or fish."),
    "man": ("helping", "man", "The manual page of all commands."),
    "destroy": ("lifecycle", "destroy", "Delete a stopped node's folder."),
    "demo": ("handover", "demo", "The main job on four nodes, from nothing to a checked bill."),
    "testnet": ("handover", "testnet", "Networks on this machine."),
}
# How `--help` lists them; a command that stands nowhere here is listed at the end.
_SECTIONS: Final[dict[str, tuple[str, ...]]] = {
    "A node": ("init", "start", "stop", "restart", "status", "dashboard", "destroy"),
    "Work": (
        "run",
        "ask",
        "generate",
        "generation",
        "quote",
        "job",
        "plan",
        "serve",
        "worker",
        "task",
        "proof",
    ),
    "Models": ("model", "dataset", "storage"),
    "Money and agreement": ("wallet", "chain", "validator", "governance", "consensus"),
    "Who may do what": ("token", "tenant", "audit", "net"),
    "When something is wrong": ("doctor", "logs", "top", "explain", "debug", "bench", "where"),
    "Keeping it": ("config", "backup", "restore", "upgrade", "version"),
    "Networks on this machine": ("demo", "testnet"),
    "Programs and learning": ("rpc", "mcp", "help", "completion", "man", "sandbox"),
}
_FLAGS: Final = {
    **dict.fromkeys(("--no-color",), "no_color"),
    **dict.fromkeys(("--wide",), "wide"),
    **dict.fromkeys(("--json",), "json"),
    **dict.fromkeys(("--quiet", "-q"), "quiet"),
    **dict.fromkeys(("--yes", "-y"), "yes"),
    **dict.fromkeys(("--verbose", "-v"), "verbose"),
}
_VALUES: Final = frozenset(
    ("--home", "--node", "--timeout", "--progress", "--token-file", "--sign-key", "--ca-file")
)
_FAILED, _INTERRUPTED = 1, 130  # as in node/rpc/reasons, which --help does not load
_NO_ROOM: Final = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EIO))
_TIMEOUT_S_MAX: Final = 31_536_000.0  # a year
_HANDED_OVER: Final = frozenset(("demo", "testnet"))


class Root(Words):
    """The first level: static names, modules loaded on use, all errors shown here."""

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names, in the order people need them."""
        del ctx  # the list is static
        return list(COMMANDS)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load the module of one command."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(f"prsm.node.cli.{module}"), attribute)
        return command

    @override
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands by what they are for, without loading them."""
        del ctx
        listed = {name for names in _SECTIONS.values() for name in names}
        others = tuple(name for name in COMMANDS if name not in listed)
        for title, names in {**_SECTIONS, "More": others}.items():
            rows = [(name, COMMANDS[name][2]) for name in names if name in COMMANDS]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

    @override
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Let global options stand anywhere; `--version` is the command."""
        for word in args:
            if "\0" in word or not word.isascii():
                _refuse_no_text(word)
        words = ["version" if word == "--version" else word for word in args[:1]] + args[1:]
        return super().parse_args(ctx, hoist(words))

    @override
    def main(  # click's own signature
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,  # noqa: FBT001, FBT002 - click's
        **extra: Any,  # noqa: ANN401 - click's
    ) -> NoReturn:
        """Run one command line and end the process with its exit code."""
        del standalone_mode  # errors are shown here, in one form
        words = list(sys.argv[1:] if args is None else args)
        places: list[Path] = []  # where the log of the node is that the session is about
        extra = {"obj": places, **extra}
        try:
            _require_output()
            # Not standalone, click returns the code of an Exit; our commands return nothing.
            ended = super().main(words, prog_name or "prsm", complete_var, False, **extra)  # noqa: FBT003 - click's
            sys.stdout.flush()
            code = ended if isinstance(ended, int) else 0
        except BrokenPipeError:
            # The reader of a pipe had enough; nothing may be written at exit either.
            _mute()
            code = _FAILED
        except (click.Abort, KeyboardInterrupt):
            click.echo("stopped", err=True)
            code = _INTERRUPTED
        except Exception as error:  # noqa: BLE001 - the last door of the program
            if "-v" in words or "--verbose" in words:
                import traceback

                traceback.print_exc()
            log = next((place for place in places if place.exists()), None)
            code = _report(error, as_json="--json" in words, log=log)
        sys.exit(code)


def _require_output() -> None:
    """Nothing is asked or done whose answer could not be told."""
    if sys.stdout is None:  # closed by who started us (`>&-`)
        from prsm.node.cli.failures import OutputLost

        raise OutputLost("standard output is closed", hint="nothing was done; type > FILE")


def _mute() -> None:
    """Have what is left for standard output go nowhere, also at the end of the process."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _report(error: Exception, *, as_json: bool, log: Path | None) -> int:
    from prsm.node.cli.failures import OutputLost, report

    is_lost = False
    if isinstance(error, OSError) and error.errno in _NO_ROOM and error.filename is None:
        error, is_lost = OutputLost(f"what was to be written is lost: {error.strerror}"), True
    try:
        code: int = report(error, as_json=as_json, log=log)
    except OSError:  # people were told; the document has no place
        code, is_lost = _FAILED, True
    if is_lost:
        _mute()
    return code


def _refuse_no_text(word: str) -> None:
    try:
        word.encode()
    except UnicodeEncodeError as error:
        raise click.UsageError(f"{ascii(word)[:60]} is no UTF-8 text") from error
    if "\0" in word:
        raise click.UsageError(f"{ascii(word)[:60]} holds a zero byte")


def hoist(args: Sequence[str]) -> list[str]:
    """Move global options to the front; what follows `--`, `demo` or `testnet` stays."""
    front: list[str] = []
    rest: list[str] = []
    queue = list(args)
    while queue:
        word = queue.pop(0)
        if word == "--" or (word in _HANDED_OVER and not rest):
            rest += [word, *queue]
            break
        name, has_value, _ = word.partition("=")
        if word in _FLAGS or (name in _VALUES and has_value):
            front.append(word)
        elif word in _VALUES:
            front += [word, *queue[:1]]
            del queue[:1]
        else:
            rest.append(word)
    return front + rest


@click.group(
    cls=Root,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="PRSM: store, run and share AI models on many machines, with checked results.",
    epilog="Global options may stand before or after the command. New here? prsm demo shows it "
    "all; prsm init --dev begins a node; prsm help start goes on.",
)
@click.option("--home", metavar="DIR", help="The node's folder; else as `prsm help files` says.")
@click.option(
    "--node", metavar="URL", help="Another node: http://127.0.0.1:PORT, https://HOST or unix:PATH."
)
@click.option("--token-file", metavar="FILE", help="A token to show; else PRSM_TOKEN.")
@click.option("--sign-key", metavar="FILE", help="Sign requests with this key, no token.")
@click.option("--ca-file", metavar="FILE", help="Who vouches for the node's certificate.")
@click.option(
    "--timeout",
    type=Number(0.001, _TIMEOUT_S_MAX),
    metavar="SECONDS",
    help="How long to wait for an answer.",
)
@click.option("--json", is_flag=True, help="One JSON document on standard output, nothing else.")
@click.option(
    "--progress",
    type=click.Choice(["auto", "json", "none"]),
    help="Bars on a terminal; or one JSON object a line on standard error; or nothing.",
)
@click.option("--wide", is_flag=True, help="Tables with all columns, however wide.")
@click.option("--no-color", is_flag=True, help="No colour in bars and top, as NO_COLOR says too.")
@click.option("--quiet", "-q", is_flag=True, help="No notes on standard error.")
@click.option("--yes", "-y", is_flag=True, help="Answer yes to every question.")
@click.option("--verbose", "-v", is_flag=True, help="Show the traceback of a fault.")
@click.pass_context
def prsm(ctx: click.Context, /, **options: object) -> None:
    """Open the session all commands share."""
    from prsm.node.cli.session import open_session

    session = open_session(options)
    if isinstance(ctx.obj, list) and not session.node:
        ctx.obj.append(session.home.log)
    ctx.obj = session
    ctx.call_on_close(session.close)


def main() -> NoReturn:
    """The entry point of the `prsm` script."""
    prsm.main()


if __name__ == "__main__":
    main()
