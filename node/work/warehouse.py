"""What the models of a node are made of: store, sources, keys, from the configuration.

Knows: which parts there are and which keys of [storage] switch them. Must not know: how they work.
"""

from dataclasses import dataclass
from pathlib import Path

from prsm.node.chain.chain import ChainParts
from prsm.node.chain.outbox import Outbox
from prsm.node.config.schema import StorageConfig
from prsm.node.home import Home
from prsm.node.inference.pool import Pool
from prsm.node.models import Models, Tools
from prsm.node.models.outside import Outside, Place
from prsm.node.net.network import PeerNetwork
from prsm.storage.keystore import load_seed
from prsm.storage.store.extra import ExtraStore
from prsm.storage.store.model_store import ModelStore


@dataclass(frozen=True, slots=True)
class Beneath:
    """What models stand on."""

    store: ModelStore
    chain: ChainParts
    network: PeerNetwork
    outbox: Outbox


def make_models(
    home: Home,
    config: StorageConfig,
    beneath: Beneath,
    pool: Pool | None,
) -> Models:
    """Join what models need; nothing runs yet.

    Raises:
        LocalError: an address of an IPFS peer that is none.
    """
    store, chain, network = beneath.store, beneath.chain, beneath.network
    seed = load_seed(home.node_key)
    place = Place(
        seed,
        lanes=network.lanes,
        clock=chain.driver.clock,
        health=home.data / "sources.json",
        trusted=network.trusted,
    )
    return Models(
        Tools(
            store=store,
            pool=pool,
            network=network,
            driver=chain.driver,
            wallet=chain.wallet,
            outbox=beneath.outbox,
            scratch=home.models,
            outside=Outside(config, store.blocks, place),
            extra=[ExtraStore(Path(folder)) for folder in config.extra_stores],
            seed=seed,
            offline=config.offline,
            tasks=home.data / "tasks.json",
        )
    )
