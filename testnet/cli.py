"""`prsm-testnet` and `python -m prsm.testnet`: networks of real daemons on this machine, the demo.

Knows: words and exit codes. Must not know: how a network is made.
"""

import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Final

import click
import msgspec

from prsm.node.cli.failures import report
from prsm.node.rpc.client import RpcError
from prsm.node.rpc.reasons import Exit
from prsm.protocol.errors import LocalError, PrsmError
from prsm.protocol.genesis import from_json
from prsm.testnet import demo as demo_steps
from prsm.testnet import invariants, launch
from prsm.testnet.report import Screen, page

DIRECTORY: Final = Path.home() / ".prsm-testnet"
_dir = click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path),
    default=DIRECTORY,
    show_default=True,
    help="Folder of the network.",
)
_json = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Networks of real daemons on this machine, and the demo."""


@main.command()
@_json
@click.option("--text", type=click.Path(path_type=Path), help="Sentences of this file.")
@click.option("--question", default=demo_steps.QUESTION, show_default=True)
@click.option("--rows", type=int, default=240, show_default=True, help="Sentences at most.")
@click.option("--byzantine", type=int, default=1, show_default=True, help="Lying workers, 0 or 1.")
@click.option("--byzantine-node", type=int, default=4, show_default=True, help="Which one lies.")
@click.option("--keep", is_flag=True, help="Leave nodes and files.")
@click.option(
    "--receipt",
    type=click.Path(path_type=Path),
    default=Path("receipt.json"),
    show_default=True,
    help="Where the receipt is written.",
)
@click.option("--install-seconds", type=float, default=0.0, hidden=True)
def demo(*, as_json: bool, **given: object) -> None:
    """Four daemons run a sharded model, outvote a liar and are paid."""
    options = msgspec.convert(given, demo_steps.Options)
    screen = Screen(sys.stderr)
    document = demo_steps.run_demo(options, screen)
    broken = demo_steps.failures(document)
    click.echo(msgspec.json.encode(document).decode() if as_json else page(document))
    for what in broken:
        click.echo(f"failed: {what}", err=True)
    if broken:
        sys.exit(1)


@main.command()
@click.option("-n", "--nodes", type=int, default=4, show_default=True)
@_dir
@_json
def up(*, nodes: int, folder: Path, as_json: bool) -> None:
    """Make a network if there is none, and start its nodes."""
    if (folder / "network.json").exists():
        network = launch.load(folder)
        network.start_missing()
    else:
        network = launch.create(folder, nodes)
        network.start()
    _show(network, as_json=as_json)


@main.command()
@_dir
@_json
def status(*, folder: Path, as_json: bool) -> None:
    """Which nodes run, and whether they agree."""
    _show(launch.load(folder), as_json=as_json)


@main.command()
@click.argument("node")
@_dir
@_json
def kill(*, node: str, folder: Path, as_json: bool) -> None:
    """End one node by SIGKILL; `up` starts it again."""
    network = launch.load(folder)
    named = {each.name: each for each in network.nodes}
    if node not in named:
        raise LocalError(f"no node {node!r}", hint=f"one of {', '.join(named)}")
    named[node].signal(signal.SIGKILL)
    deadline = time.monotonic() + launch.STOP_SECONDS
    while named[node].is_running() and time.monotonic() < deadline:
        launch.nap()
    named[node].pid = 0
    network.save()
    _show(network, as_json=as_json)


@main.command()
@_dir
@_json
def down(*, folder: Path, as_json: bool) -> None:
    """End all nodes; their folders stay, `up` starts them again."""
    network = launch.load(folder)
    graceful = network.stop()
    _say({"stopped": len(network.nodes), "graceful": graceful}, as_json=as_json)


@main.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def sim(arguments: tuple[str, ...]) -> None:
    """Play simulated networks by seed; see `sim --help`."""
    from prsm.testnet.sim.__main__ import main as play

    sys.exit(play(list(arguments)))


@main.command()
@_json
@click.option("--operations", type=int, default=5_000, show_default=True, help="With an answer.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of operations and faults.")
@click.option("-n", "--nodes", type=int, default=5, show_default=True)
@click.option("--clients", type=int, default=32, show_default=True)
@click.option("--scale", type=float, default=1.0, show_default=True, help="Of faults' durations.")
@click.option("--seconds", type=float, default=float("inf"), help="Of load, at most.")
@click.option("--keep", is_flag=True, help="Leave nodes' folders and the history.")
def histories(*, as_json: bool, **given: object) -> None:
    """Real nodes with faults between them; what clients were told is judged by a serial model."""
    from prsm.testnet.histories import run as histories_run

    document = histories_run.play(msgspec.convert(given, histories_run.Options), Screen(sys.stderr))
    _say(document, as_json=as_json)
    _fail(histories_run.failures(document))


@main.command("leader-kills")
@_json
@click.option("--trials", type=int, default=100, show_default=True, help="Proposers killed.")
@click.option("--writes", type=int, default=200, show_default=True, help="With f dead and loss.")
@click.option("--loss", type=float, default=0.1, show_default=True, help="Share of chunks.")
@click.option("--simulated", type=int, default=4, show_default=True, help="Minutes, with loss.")
@click.option("--seed", type=int, default=0, show_default=True)
def leader_kills(*, as_json: bool, **given: object) -> None:
    """How long a write takes after SIGKILL of the proposer, and with f dead and lossy links."""
    from prsm.testnet import outages

    document = outages.measure(msgspec.convert(given, outages.Options), Screen(sys.stderr))
    _say(document, as_json=as_json)
    _fail(outages.failures(document))


@main.command()
@_json
@click.option("--accounts", type=int, default=100_000, show_default=True, help="On the ledger.")
@click.option("--seed", type=int, default=0, show_default=True)
def rejoin(*, as_json: bool, **given: object) -> None:
    """How long a node whose disk was wiped takes until its state root is the others'."""
    from prsm.testnet import rejoin as rejoining

    document = rejoining.measure(msgspec.convert(given, rejoining.Options), Screen(sys.stderr))
    _say(document, as_json=as_json)
    _fail(rejoining.failures(document))


def _fail(broken: list[str]) -> None:
    for what in broken:
        click.echo(f"failed: {what}", err=True)
    if broken:
        sys.exit(1)


@main.command()
@_json
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
    from prsm.testnet.bench import run as bench_run

    options = msgspec.convert(given, bench_run.Options)
    figures = bench_run.run_bench(options)
    _say({**asdict(options), **asdict(figures)}, as_json=as_json)


def _show(network: launch.Network, *, as_json: bool) -> None:
    rows = [
        {
            "node": node.name,
            "pid": node.pid if node.is_running() else 0,
            "home": str(node.home.root),
        }
        for node in network.nodes
    ]
    document: dict[str, object] = {"folder": str(network.folder), "nodes": rows}
    if any(row["pid"] for row in rows):
        genesis = from_json(network.genesis.read_bytes())
        agreement = asdict(invariants.check(network, genesis))
        agreement["balances"] = {k: str(v) for k, v in agreement["balances"].items()}
        document["agreement"] = agreement
    _say(document, as_json=as_json)


def _say(document: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.encode(document).decode())
        return
    for name, value in document.items():
        if isinstance(value, list):
            for row in value:
                click.echo("  ".join(f"{k}={v}" for k, v in row.items()))
        elif isinstance(value, dict):
            for key, item in value.items():
                click.echo(f"{key}: {item}")
        else:
            click.echo(f"{name}: {value}")


def run(arguments: list[str]) -> int:
    """Run a command; errors become lines on stderr and an exit code."""
    try:
        main(args=arguments, prog_name="prsm-testnet", standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        return int(Exit.INTERRUPTED)
    except (click.ClickException, PrsmError, RpcError) as error:
        return int(report(error, as_json="--json" in arguments))
    return int(Exit.DONE)


def entry() -> None:
    """The script `prsm-testnet`."""
    sys.exit(run(sys.argv[1:]))
