"""What the models of a node are made of: store, sources, keys, from the configuration.

Knows: which parts there are and which keys of [storage] switch them. Must not know: how they work.
"""

from collections.abc import Sequence
from pathlib import Path

from prsm.node.chain import ChainParts
from prsm.node.config.schema import StorageConfig
from prsm.node.home import Home
from prsm.node.inference.pool import Pool
from prsm.node.models import Models, Tools
from prsm.node.net.interface import Network
from prsm.storage.extra import ExtraStore
from prsm.storage.interfaces import Source
from prsm.storage.keystore import load_seed
from prsm.storage.model_store import ModelStore


def make_models(
    home: Home,
    config: StorageConfig,
    store: ModelStore,
    chain: ChainParts,
    network: Network,
    pool: Pool | None,
) -> Models:
    """Join what models need; nothing runs yet."""
    return Models(
        Tools(
            store=store,
            pool=pool,
            network=network,
            driver=chain.driver,
            wallet=chain.wallet,
            scratch=home.models,
            quota_bytes=config.quota_bytes,
            external=() if config.offline else _ipfs_daemons(config.ipfs_rpc),
            extra=[ExtraStore(Path(folder)) for folder in config.extra_stores],
            seed=load_seed(home.node_key),
            offline=config.offline,
        )
    )


def _ipfs_daemons(urls: Sequence[str]) -> Sequence[Source]:
    if not urls:
        return ()
    # Loads requests (8 MiB) and the client library, which most nodes never need.
    from prsm.storage.sources.ipfs_rpc import IpfsRpc  # noqa: PLC0415 - see above

    return tuple(IpfsRpc(url) for url in urls)
