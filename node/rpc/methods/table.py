"""All methods of the node by name."""

from collections.abc import Mapping
from typing import Final

from prsm.node.rpc.methods import (
    audit,
    care,
    chain,
    chat,
    copies,
    datasets,
    deals,
    evaluations,
    forms,
    generation,
    gossip,
    governance,
    ledger,
    models,
    net,
    node,
    offers,
    plans,
    reach,
    registry,
    serving,
    storage,
    subscriptions,
    tasks,
    tokens,
    validator,
    wallet,
    work,
)
from prsm.node.rpc.spec import Method, table

METHODS: Final[Mapping[str, Method]] = table(
    node.METHODS,
    care.METHODS,
    net.METHODS,
    reach.METHODS,
    gossip.METHODS,
    chain.METHODS,
    ledger.METHODS,
    governance.METHODS,
    validator.METHODS,
    wallet.METHODS,
    models.METHODS,
    forms.METHODS,
    registry.METHODS,
    datasets.METHODS,
    evaluations.METHODS,
    tasks.METHODS,
    tokens.METHODS,
    storage.METHODS,
    copies.METHODS,
    deals.METHODS,
    work.METHODS,
    generation.METHODS,
    chat.METHODS,
    plans.METHODS,
    offers.METHODS,
    serving.METHODS,
    subscriptions.METHODS,
    audit.METHODS,
)
# OpenRPC's own spelling of a method that has ours as well.
ALIASES: Final[Mapping[str, str]] = {"rpc.discover": "rpc_discover"}
