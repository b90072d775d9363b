"""`prsm-testnet` and `python -m prsm.testnet`: networks of real daemons on this machine, the demo.

Knows: words and exit codes, the commands on a network's folder; `trials` has the others. Must not
know: how a network is made.
"""

import shutil
import signal
import sys
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Final

import click
import msgspec

from prsm.node.cli.failures import report
from prsm.node.rpc.client import RpcError
from prsm.node.rpc.reasons import Exit
from prsm.node.telemetry import logs
from prsm.protocol.errors import LocalError, PrsmError
from prsm.protocol.genesis import from_json
from prsm.testnet import checking, demo_big, invariants, launch, stages
from prsm.testnet import demo as demo_steps
from prsm.testnet import generate as generating
from prsm.testnet import manifest as manifests
from prsm.testnet.report import Screen, page, plain
from prsm.testnet.trials import fail, json_option, say, trials

DIRECTORY: Final = Path.home() / ".prsm-testnet"
_dir = click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path),
    default=DIRECTORY,
    show_default=True,
    help="Folder of the network.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Networks of real daemons on this machine, and the demo."""


for _name, _trial in trials.commands.items():
    main.add_command(_trial, _name)


@main.command()
@json_option
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
@click.option("-n", "--nodes", type=int, help="Of a new network.  [default: 4]")
@click.option("--manifest", type=click.Path(path_type=Path), help="TOML file, in the place of -n.")
@_dir
@json_option
def up(*, nodes: int | None, manifest: Path | None, folder: Path, as_json: bool) -> None:
    """Make a network if there is none, and start its nodes and what lies between them."""
    try:
        network = _up(nodes, manifest, folder)
    except KeyboardInterrupt:
        click.echo("what was started is ended again", err=True)
        raise
    _show(network, as_json=as_json)


def _up(nodes: int | None, manifest: Path | None, folder: Path) -> launch.Network:
    is_made = (folder / "network.json").exists()
    if is_made and nodes not in {None, count := len(launch.load(folder).nodes)}:
        raise LocalError(
            f"the network in {folder} has {count} nodes, not {nodes}",
            hint="another folder: --dir DIR; or delete it: prsm testnet down --delete",
        )
    if is_made or manifest is not None:
        return stages.up(folder, manifests.read(manifest) if manifest is not None else None)
    network = launch.create(folder, 4 if nodes is None else nodes)
    network.start()
    return network


@main.command("load")
@click.option("--seconds", type=float, help="Of load; what the manifest says if left out.")
@_dir
@json_option
def load_stage(*, seconds: float | None, folder: Path, as_json: bool) -> None:
    """Transfers and jobs of the manifest, each followed until it is in a block."""
    say(stages.run_trio(partial(stages.load_alone, folder, seconds)), as_json=as_json)


@main.command()
@_dir
@json_option
def perturb(*, folder: Path, as_json: bool) -> None:
    """Faults of the manifest that have not been carried out yet."""
    document = stages.run_trio(partial(stages.perturb, folder, Screen(sys.stderr)))
    say(document, as_json=as_json)
    fail(stages.failures({"perturb": document}))


@main.command()
@_dir
@json_option
def wait(*, folder: Path, as_json: bool) -> None:
    """Wait until a new write is durable at every node, and all stand at one height."""
    say(stages.run_trio(partial(checking.wait, folder)), as_json=as_json)


@main.command()
@_dir
@json_option
def check(*, folder: Path, as_json: bool) -> None:
    """Judge what must hold on any network, asked of every node."""
    say(document := stages.run_trio(partial(checking.check, folder)), as_json=as_json)
    fail(stages.failures({"check": document}))


@main.command("run")
@click.argument("manifest", type=click.Path(path_type=Path))
@click.option("--dir", "folder", type=click.Path(path_type=Path), help="Keep the network here.")
@json_option
def run_stages(*, manifest: Path, folder: Path | None, as_json: bool) -> None:
    """All stages of a manifest: up, load and perturb together, wait, check, down."""
    with stages.place(folder) as where:
        document = stages.run(manifests.read(manifest), where, Screen(sys.stderr))
        say(document, as_json=as_json)
        fail(stages.failures(document))


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
@_dir
@json_option
def status(*, folder: Path, as_json: bool) -> None:
    """Which nodes run, and whether they agree."""
    _show(launch.load(folder), as_json=as_json)


@main.command()
@click.argument("node")
@_dir
@json_option
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
@json_option
@click.option("--delete", is_flag=True, help="Delete the folder too, with keys and ledgers.")
def down(*, folder: Path, as_json: bool, delete: bool) -> None:
    """End all nodes and the proxy; their folders stay, `up` starts them again."""
    count = sum(node.is_running() for node in launch.load(folder).nodes)
    graceful = stages.down(folder)
    if delete:
        shutil.rmtree(folder)
    say({"stopped": count, "graceful": graceful}, as_json=as_json)


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
    say(document, as_json=as_json)


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
    logs.configure(level="warning")  # to stderr: standard output has the document alone
    sys.exit(run(sys.argv[1:]))
