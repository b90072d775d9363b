"""`prsm-testnet` and `python -m prsm.testnet`: networks of real daemons on this machine, the demo.

Knows: words and exit codes. Must not know: how a network is made.
"""

import shutil
import signal
import sys
import time
from dataclasses import asdict
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Final

import click
import msgspec

from prsm.node.cli.failures import report
from prsm.node.rpc.client import RpcError
from prsm.node.rpc.reasons import Exit
from prsm.protocol.errors import LocalError, PrsmError
from prsm.protocol.genesis import from_json
from prsm.testnet import chaos as chaotic
from prsm.testnet import checking, demo_big, invariants, launch, stages
from prsm.testnet import demo as demo_steps
from prsm.testnet import generate as generating
from prsm.testnet import manifest as manifests
from prsm.testnet.report import Screen, page, plain

DIRECTORY: Final = Path.home() / ".prsm-testnet"
_dir = click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path),
    default=DIRECTORY,
    show_default=True,
    help="Folder of the network.",
)
_FREE: Final = {"ignore_unknown_options": True, "help_option_names": []}  # all is passed on
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
@click.option("--big", flag_value=2304, is_flag=False, type=int, help="MiB no worker can hold.")
def demo(*, as_json: bool, big: int | None, **given: object) -> None:
    """Four daemons run a sharded model, outvote a liar and are paid."""
    screen = Screen(sys.stderr)
    if big is not None:
        document, broken = demo_big.run_big(screen, mib=big)
    else:
        document = demo_steps.run_demo(msgspec.convert(given, demo_steps.Options), screen)
        broken = demo_steps.failures(document)
    click.echo(plain(document, as_json=as_json) if big or as_json else page(document))
    for what in broken:
        click.echo(f"failed: {what}", err=True)
    if broken:
        sys.exit(1)


@main.command()
@click.option("-n", "--nodes", type=int, default=4, show_default=True)
@click.option("--manifest", type=click.Path(path_type=Path), help="TOML file, in the place of -n.")
@_dir
@_json
def up(*, nodes: int, manifest: Path | None, folder: Path, as_json: bool) -> None:
    """Make a network if there is none, and start its nodes and what lies between them."""
    if (folder / "network.json").exists() or manifest is not None:
        network = stages.up(folder, manifests.read(manifest) if manifest is not None else None)
    else:
        network = launch.create(folder, nodes)
        network.start()
    _show(network, as_json=as_json)


@main.command("load")
@click.option("--seconds", type=float, help="Of load; what the manifest says if left out.")
@_dir
@_json
def load_stage(*, seconds: float | None, folder: Path, as_json: bool) -> None:
    """Transfers and jobs of the manifest, each followed until it is in a block."""
    _say(stages.run_trio(partial(stages.load_alone, folder, seconds)), as_json=as_json)


@main.command()
@_dir
@_json
def perturb(*, folder: Path, as_json: bool) -> None:
    """Faults of the manifest that have not been carried out yet."""
    document = stages.run_trio(partial(stages.perturb, folder, Screen(sys.stderr)))
    _say(document, as_json=as_json)
    _fail(stages.failures({"perturb": document}))


@main.command()
@_dir
@_json
def wait(*, folder: Path, as_json: bool) -> None:
    """Wait until a new write is durable at every node, and all stand at one height."""
    _say(stages.run_trio(partial(checking.wait, folder)), as_json=as_json)


@main.command()
@_dir
@_json
def check(*, folder: Path, as_json: bool) -> None:
    """Judge what must hold on any network, asked of every node."""
    _say(document := stages.run_trio(partial(checking.check, folder)), as_json=as_json)
    _fail(stages.failures({"check": document}))


@main.command("run")
@click.argument("manifest", type=click.Path(path_type=Path))
@click.option("--dir", "folder", type=click.Path(path_type=Path), help="Keep the network here.")
@_json
def run_stages(*, manifest: Path, folder: Path | None, as_json: bool) -> None:
    """All stages of a manifest: up, load and perturb together, wait, check, down."""
    with stages.place(folder) as where:
        document = stages.run(manifests.read(manifest), where, Screen(sys.stderr))
        _say(document, as_json=as_json)
        _fail(stages.failures(document))


@main.command()
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="File; standard output if left out.")
def generate(*, seed: int, out: Path | None) -> None:
    """Draw a manifest: nodes, regions, links, load and faults that belong together."""
    text = manifests.to_toml(generating.generate(seed))
    if out is None:
        click.echo(text, nl=False)
    else:
        out.write_text(text, encoding="utf-8")


@main.command()
@_json
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
    with stages.place(folder) as where:
        options = msgspec.convert(given, chaotic.Options)
        document = chaotic.run(options, where, Screen(sys.stderr))
        _say(document, as_json=as_json)
        _fail(chaotic.failures(document))


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
@click.option("--delete", is_flag=True, help="Delete the folder too, with keys and ledgers.")
def down(*, folder: Path, as_json: bool, delete: bool) -> None:
    """End all nodes and the proxy; their folders stay, `up` starts them again."""
    count, graceful = len(launch.load(folder).nodes), stages.down(folder)
    if delete:
        shutil.rmtree(folder)
    _say({"stopped": count, "graceful": graceful}, as_json=as_json)


def _pass_on(word: str, module: str, what: str) -> None:
    """Add a command whose words a module of its own reads."""

    @main.command(
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

    _measure(outages, given, as_json=as_json)


@main.command()
@_json
@click.option("--accounts", type=int, default=100_000, show_default=True, help="On the ledger.")
@click.option("--seed", type=int, default=0, show_default=True)
def rejoin(*, as_json: bool, **given: object) -> None:
    """How long a node whose disk was wiped takes until its state root is the others'."""
    from prsm.testnet import rejoin as rejoining

    _measure(rejoining, given, as_json=as_json)


@main.command()
@_json
@click.option("--reads", type=int, default=1_000, show_default=True)
def copies(*, as_json: bool, **given: object) -> None:
    """Kill two of five holders of a model: are all reads answered, and how soon is it whole."""
    from prsm.testnet import copies as copying

    _measure(copying, given, as_json=as_json)


@main.command()
@_json
@click.option("--source", type=click.Path(path_type=Path), help="Of the older program.")
@click.option("--rate", type=int, default=20, show_default=True, help="Transfers a second.")
@click.option("--hold-s", type=float, default=2.0, show_default=True, help="Between restarts.")
@click.option("--upgraded", type=int, default=4, show_default=True, help="Nodes, in order.")
@click.option("--back", is_flag=True, help="And back to the older program.")
@click.option("--seed", type=int, default=0, show_default=True)
def rolling(*, as_json: bool, **given: object) -> None:
    """Upgrade a network node by node under load: the longest time without a block, and no fork."""
    from prsm.testnet import rolling as upgrade

    _measure(upgrade, given, as_json=as_json)


@main.command()
@_json
@click.option("--writes", type=int, default=200, show_default=True)
@click.option("--jobs", type=int, default=10, show_default=True, help="Paid ones, in a row.")
@click.option("--rows", type=int, default=6, show_default=True, help="Of a job.")
@click.option("--delay-ms", type=int, default=50, show_default=True, help="One way.")
@click.option("--loss", type=float, default=0.01, show_default=True, help="Share of chunks.")
@click.option("--seed", type=int, default=0, show_default=True)
def wan(*, as_json: bool, **given: object) -> None:
    """Finality and a paid job's time over slow, lossy links, beside loopback."""
    from prsm.testnet import wan as distance

    _measure(distance, given, as_json=as_json)


@main.command()
@_json
@click.option("--peers", type=int, default=20, show_default=True, help="Hostile ones.")
@click.option("--times", type=int, default=10, show_default=True, help="What one may send.")
@click.option("--seconds", type=float, default=30.0, show_default=True, help="Quiet, and flood.")
def flood(*, as_json: bool, **given: object) -> None:
    """What honest writes cost while hostile peers flood gossip, streams and topics."""
    from prsm.testnet import flood as flooding

    _measure(flooding, given, as_json=as_json)


def _measure(what: ModuleType, given: dict[str, object], *, as_json: bool) -> None:
    document = what.measure(msgspec.convert(given, what.Options), Screen(sys.stderr))
    _say(document, as_json=as_json)
    _fail(what.failures(document))


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
        {"node": n.name, "pid": n.pid if n.is_running() else 0, "home": str(n.home.root)}
        for n in network.nodes
    ]
    document: dict[str, object] = {"folder": str(network.folder), "nodes": rows}
    if any(row["pid"] for row in rows):
        genesis = from_json(network.genesis.read_bytes())
        agreement = asdict(invariants.check(network, genesis))
        agreement["balances"] = {k: str(v) for k, v in agreement["balances"].items()}
        document["agreement"] = agreement
    _say(document, as_json=as_json)


def _say(document: dict[str, object], *, as_json: bool) -> None:
    click.echo(plain(document, as_json=as_json))


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
