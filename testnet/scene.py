"""A network of a manifest as every stage finds it again: its folder opened, its nodes watched.

Knows: which files a network's folder holds, how one is made of a manifest. Must not know: what a
stage does. Opening starts nothing but tasks of this process.
"""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Final

import trio

from prsm.node.home import write_private
from prsm.node.keys import PublicKeys, read_public_keys
from prsm.node.rpc.client import RpcError
from prsm.node.rpc.errors import NodeUnreachable
from prsm.node.rpc.methods.wallet import AccountParams, Nonce
from prsm.protocol.genesis import Genesis, from_json
from prsm.protocol.ids import address_text
from prsm.testnet import launch, links, manifest, previous
from prsm.testnet.asking import Asker, Door
from prsm.testnet.deceit import set_lie
from prsm.testnet.load import PULSES, allocations
from prsm.testnet.orders import signer_of
from prsm.testnet.perturb import Perturber
from prsm.testnet.pulse import Pulse
from prsm.testnet.tables import Manifest, NodeSpec
from prsm.testnet.vitals import Sampler
from prsm.testnet.watch import Watch

MANIFEST: Final = "manifest.toml"
ASK_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Scene:
    """What a stage works with."""

    folder: Path
    manifest: Manifest
    network: launch.Network
    genesis: Genesis
    doors: list[Door]
    watches: list[Watch]
    links: links.Links

    @property
    def keys(self) -> list[PublicKeys]:
        """What others may know of each node."""
        return [read_public_keys(node.home) for node in self.network.nodes]

    @property
    def accounts(self) -> list[str]:
        """The wallet of each node, as text."""
        return [address_text(key.wallet) for key in self.keys]

    async def pulse(self, number: int) -> Pulse:
        """A measuring account, one for each stage: below `load.PULSES`."""
        assert 0 <= number < PULSES
        signer = signer_of(self.manifest.seed, number)
        return Pulse(self.genesis, signer, await self._nonce(signer.public_key))

    async def perturber(self, *, number: int, seed: int = 0) -> Perturber:
        """What breaks this network and mends it."""
        return Perturber(
            self.network,
            self.links,
            voters=self.manifest.voters,
            watches=self.watches,
            dice=random.Random(f"{self.manifest.seed} {seed} perturber"),
            base=self.manifest.base(),
            pulse=await self.pulse(number),
        )

    async def _nonce(self, account: bytes) -> int:
        """The highest one that any node knows of an account."""
        highest = 0
        for door in self.doors:
            asker = Asker(door)
            try:
                with trio.fail_after(ASK_SECONDS):
                    params = AccountParams(address_text(account))
                    found = await asker.call("account_getNonce", params, result=Nonce)
                highest = max(highest, found.nonce)
            except (NodeUnreachable, RpcError, trio.TooSlowError):
                continue
            finally:
                asker.close()
        return highest


def make(folder: Path, wanted: Manifest) -> launch.Network:
    """Make a network's folder: keys, genesis, homes, ports of its proxy; nothing is started.

    Raises:
        LocalError: the folder is in use.
    """
    count = len(wanted.nodes)
    pairs = list(permutations(range(count), 2)) if wanted.needs_proxy else []
    ports = dict(zip(pairs, launch.free_ports(len(pairs)), strict=True))
    rig = launch.Rig(route=(lambda a, b: ports[a, b]) if pairs else None, own_clocks=True)
    network = launch.build(
        folder,
        [_member(name, spec) for name, spec in wanted.nodes.items()],
        funded=allocations(wanted.seed, wanted.load.accounts),
        rig=rig,
    )
    for node, spec in zip(network.nodes, wanted.nodes.values(), strict=True):
        set_lie(node.home, spec.lies)
        previous.mark(node.home, is_older=spec.version == "previous")
    if pairs:
        links.Described(
            seed=wanted.seed,
            count=count,
            ports=tuple((*pair, port) for pair, port in ports.items()),
            targets=tuple(node.port for node in network.nodes),
            base=tuple(links.row_of(*each) for each in wanted.base().items()),
        ).save(folder)
    write_private(folder / MANIFEST, manifest.to_toml(wanted).encode())
    return network


def _member(name: str, spec: NodeSpec) -> launch.Member:
    profile = "light" if spec.role == "light" else "validator" if spec.is_validator else "lab"
    return launch.Member(
        name,
        votes=spec.is_validator,
        models=spec.runs_models,
        liar=spec.role == "liar",
        is_rigged=True,
        profile=profile,
        region=spec.region,
    )


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Scene]:
    """Open a network that `make` made, and watch its nodes while the block lasts.

    Raises:
        LocalError: no network in the folder, or none that was made of a manifest.
    """
    network = launch.load(folder)
    doors = [Door(node.home) for node in network.nodes]
    scene = Scene(
        folder=folder,
        manifest=manifest.read(folder / MANIFEST),
        network=network,
        genesis=from_json(network.genesis.read_bytes()),
        doors=doors,
        watches=[Watch(door) for door in doors],
        links=links.FarLinks(folder) if links.read(folder) else links.PlainLinks(),
    )
    async with trio.open_nursery() as nursery:
        for watch in scene.watches:
            nursery.start_soon(watch.run)
        nursery.start_soon(Sampler(folder, doors).run)
        try:
            yield scene
        finally:
            nursery.cancel_scope.cancel()
