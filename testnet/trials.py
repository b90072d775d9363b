"""Commands that make a network of their own, try something on it and end it; or simulate one.

Knows: words, options, exit codes. Must not know: what a trial does: its module is imported when its
command runs.
"""

import sys
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Final

import click
import msgspec

from prsm.testnet import stages
from prsm.testnet.report import Screen, plain

_FREE: Final = {"ignore_unknown_options": True, "help_option_names": []}  # all is passed on
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")


@click.group()
def trials() -> None:
    """Everything below; `cli` takes the commands out."""


@trials.command()
@json_option
@click.option("--minutes", type=float, default=10.0, show_default=True, help="Of faults.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("-n", "--nodes", type=int, default=4, show_default=True)
@click.option("--rate", type=int, default=10, show_default=True, help="Transfers a second.")
@click.option("--jobs", type=int, default=1, show_default=True, help="At a time; 0 for none.")
@click.option("--blackouts", is_flag=True, help="Also SIGKILL all nodes at once.")
@click.option("--only", default="", help="Kinds of faults, with commas.")
@click.option("--scale", type=float, default=2.0, show_default=True, help="Of their durations.")
@click.option("--dir", "folder", type=click.Path(path_type=Path), help="Keep the network here.")
def chaos(*, as_json: bool, folder: Path | None, **given: object) -> None:
    """Random faults under load with a liar: availability, healing, and what must hold."""
    _measure_in(folder, "prsm.testnet.chaos", given, as_json=as_json)


@trials.command()
@json_option
@click.option("--minutes", type=float, default=60.0, show_default=True)
@click.option("-n", "--nodes", type=int, default=7, show_default=True)
@click.option("--rate", type=int, default=4, show_default=True, help="Transfers a second.")
@click.option("--jobs", type=int, default=1, show_default=True, help="At a time; 0 for none.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--scale", type=float, default=5.0, show_default=True, help="Of faults' durations.")
@click.option("--dir", "folder", type=click.Path(path_type=Path), help="Keep the network here.")
def soak(*, as_json: bool, folder: Path | None, **given: object) -> None:
    """Faults, load and readers for an hour: what grows, who answers, what is lost."""
    _measure_in(folder, "prsm.testnet.soak.run", given, as_json=as_json)


@trials.command()
@json_option
@click.option("--operations", type=int, default=5_000, show_default=True, help="With an answer.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of operations and faults.")
@click.option("-n", "--nodes", type=int, default=5, show_default=True)
@click.option("--clients", type=int, default=32, show_default=True)
@click.option("--scale", type=float, default=1.0, show_default=True, help="Of faults' durations.")
@click.option("--seconds", type=float, default=float("inf"), help="Of load, at most.")
@click.option("--keep", is_flag=True, help="Leave nodes' folders and the history.")
def histories(*, as_json: bool, **given: object) -> None:
    """Real nodes with faults between them; what clients were told is judged by a serial model."""
    _measure("prsm.testnet.histories.run", given, as_json=as_json)


@trials.command("leader-kills")
@json_option
@click.option("--trials", type=int, default=100, show_default=True, help="Proposers killed.")
@click.option("--writes", type=int, default=200, show_default=True, help="With f dead and loss.")
@click.option("--loss", type=float, default=0.1, show_default=True, help="Share of chunks.")
@click.option("--simulated", type=int, default=4, show_default=True, help="Minutes, with loss.")
@click.option("--seed", type=int, default=0, show_default=True)
def leader_kills(*, as_json: bool, **given: object) -> None:
    """How long a write takes after SIGKILL of the proposer, and with f dead and lossy links."""
    _measure("prsm.testnet.outages", given, as_json=as_json)


@trials.command()
@json_option
@click.option("--accounts", type=int, default=100_000, show_default=True, help="On the ledger.")
@click.option("--seed", type=int, default=0, show_default=True)
def rejoin(*, as_json: bool, **given: object) -> None:
    """How long a node whose disk was wiped takes until its state root is the others'."""
    _measure("prsm.testnet.rejoin", given, as_json=as_json)


@trials.command()
@json_option
@click.option("--reads", type=int, default=1_000, show_default=True)
def copies(*, as_json: bool, **given: object) -> None:
    """Kill two of five holders of a model: are all reads answered, and how soon is it whole."""
    _measure("prsm.testnet.copies", given, as_json=as_json)


@trials.command()
@json_option
@click.option("--source", type=click.Path(path_type=Path), help="Of the older program.")
@click.option("--rate", type=int, default=20, show_default=True, help="Transfers a second.")
@click.option("--hold-s", type=float, default=2.0, show_default=True, help="Between restarts.")
@click.option("--upgraded", type=int, default=4, show_default=True, help="Nodes, in order.")
@click.option("--back", is_flag=True, help="And back to the older program.")
@click.option("--seed", type=int, default=0, show_default=True)
def rolling(*, as_json: bool, **given: object) -> None:
    """Upgrade a network node by node under load: the longest time without a block, and no fork."""
    _measure("prsm.testnet.rolling", given, as_json=as_json)


@trials.command()
@json_option
@click.option("--writes", type=int, default=200, show_default=True)
@click.option("--jobs", type=int, default=10, show_default=True, help="Paid ones, in a row.")
@click.option("--rows", type=int, default=6, show_default=True, help="Of a job.")
@click.option("--delay-ms", type=int, default=50, show_default=True, help="One way.")
@click.option("--loss", type=float, default=0.01, show_default=True, help="Share of chunks.")
@click.option("--seed", type=int, default=0, show_default=True)
def wan(*, as_json: bool, **given: object) -> None:
    """Finality and a paid job's time over slow, lossy links, beside loopback."""
    _measure("prsm.testnet.wan", given, as_json=as_json)


@trials.command()
@json_option
@click.option("--peers", type=int, default=20, show_default=True, help="Hostile ones.")
@click.option("--times", type=int, default=10, show_default=True, help="What one may send.")
@click.option("--seconds", type=float, default=30.0, show_default=True, help="Quiet, and flood.")
def flood(*, as_json: bool, **given: object) -> None:
    """What honest writes cost while hostile peers flood gossip, streams and topics."""
    _measure("prsm.testnet.flood", given, as_json=as_json)


@trials.command()
@json_option
@click.option("--nodes", type=int, default=4, show_default=True)
@click.option("--rate", type=int, default=2_000, show_default=True, help="Offered a second.")
@click.option("--size", type=int, default=200, show_default=True, help="Bytes of a transfer.")
@click.option("--accounts", type=int, default=10_000, show_default=True)
@click.option("--seconds", type=int, default=60, show_default=True)
@click.option(
    "--client",
    type=click.Choice(["stream", "per-request", "single"]),
    default="stream",
    show_default=True,
    help="Many a frame at a rate; one a frame in a closed loop; one at a time on an idle chain.",
)
@click.option("--clients", type=int, default=100, show_default=True, help="Of per-request.")
def bench(*, as_json: bool, **given: object) -> None:
    """Measure daemons as clients of the control stream see them."""
    what = import_module("prsm.testnet.bench.run")
    options = msgspec.convert(given, what.Options)
    say({**asdict(options), **asdict(what.run_bench(options))}, as_json=as_json)


def _pass_on(word: str, module: str, what: str) -> None:
    """Add a command whose words a module of its own reads."""

    @trials.command(
        word,
        help=f"{what}; see `{word} --help`.",
        context_settings=_FREE,
        add_help_option=False,
    )
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def run(arguments: tuple[str, ...]) -> None:
        sys.exit(import_module(module).main(list(arguments)))


_pass_on("sim", "prsm.testnet.sim.__main__", "Play simulated networks by seed")
_pass_on("netsim", "prsm.testnet.netsim.__main__", "Play a thousand nodes under attack")
_pass_on("gossip", "prsm.testnet.gossip", "Measure how much of what nodes announce arrives")
_pass_on("fetches", "prsm.testnet.fetches", "Fetch beside kills, faulty peers, dying nodes")


def _measure(module: str, given: dict[str, object], *, as_json: bool) -> None:
    what = import_module(module)
    document = what.measure(msgspec.convert(given, what.Options), Screen(sys.stderr))
    say(document, as_json=as_json)
    fail(what.failures(document))


def _measure_in(
    folder: Path | None, module: str, given: dict[str, object], *, as_json: bool
) -> None:
    """The same where the network stays in a folder if that is named, or if something failed."""
    what = import_module(module)
    with stages.place(folder) as where:
        document = what.run(msgspec.convert(given, what.Options), where, Screen(sys.stderr))
        say(document, as_json=as_json)
        fail(what.failures(document))


def fail(broken: list[str]) -> None:
    """Say what should have held, and end with 1 if there is anything."""
    for what in broken:
        click.echo(f"failed: {what}", err=True)
    if broken:
        sys.exit(1)


def say(document: dict[str, object], *, as_json: bool) -> None:
    """A document on standard output."""
    click.echo(plain(document, as_json=as_json))
