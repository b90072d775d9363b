"""All handlers of storage_, joined: the disk, copies among nodes, deals, the outbox.

Knows: which of them there are. Must not know: what they answer.
"""

from prsm.node.api.copies import CopiesApi
from prsm.node.api.deals import DealsApi
from prsm.node.api.intents import IntentsApi
from prsm.node.api.storage import StorageApi
from prsm.node.models import Models
from prsm.node.replication.upkeep import Upkeep
from prsm.node.rpc.dispatch import Handler
from prsm.storage.diskguard import DiskGuard
from prsm.storage.store.model_store import ModelStore


def storage_handlers(
    models: Models,
    store: ModelStore,
    upkeep: Upkeep,
    *,
    guard: DiskGuard | None = None,
    extra: tuple[str, ...] = (),
) -> dict[str, Handler]:
    """Method name -> handler."""
    return {
        **StorageApi(
            *(models, store),
            guard=guard,
            extra=extra,
            waiting=lambda: len(upkeep.outbox.intents()),
        ).handlers(),
        **CopiesApi(models, upkeep.repair).handlers(),
        **DealsApi(upkeep).handlers(),
        **IntentsApi(upkeep.outbox).handlers(),
    }
