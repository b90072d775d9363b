"""Handlers of dataset_: labelled rows added and listed.

Knows: models' store, the ledger's names. Must not know: transports, how a file is checked.
"""

from pathlib import Path
from typing import Final

import trio

from prsm.node.api.intents import tx_text
from prsm.node.api.tasks import result_of
from prsm.node.api.typed import typed
from prsm.node.chain.driver import Driver
from prsm.node.models import Models, Task
from prsm.node.models.cardtext import read_card_text
from prsm.node.models.datasets import WantedDataset, read_layout
from prsm.node.rpc.dispatch import Handler
from prsm.node.rpc.methods import datasets as api
from prsm.node.rpc.spec import Caller, NoParams
from prsm.protocol.ids import address_text
from prsm.storage.cid import decode_cid

_METHODS: Final = {method.name: method for method in api.METHODS}


class DatasetsApi:
    """Answers about datasets."""

    def __init__(self, models: Models, driver: Driver) -> None:
        self._models, self._driver = models, driver

    def handlers(self) -> dict[str, Handler]:
        """Method name -> handler."""
        return {"dataset_add": self.add, "dataset_list": self.list}

    async def add(self, params: api.AddDatasetParams, _caller: Caller) -> api.DatasetInfo:
        """Check, store and register a dataset on the node's disk; the work outlives the call."""
        card = None
        if params.card is not None:
            card = await trio.to_thread.run_sync(read_card_text, Path(params.card))
        wanted = WantedDataset(
            path=Path(params.path),
            name=params.name,
            semver=params.semver,
            licence=params.licence,
            register=params.register,
            price=int(params.price),
            card=card,
        )

        async def work(task: Task) -> object:
            return await self._add(wanted, task)

        again = typed(_METHODS["dataset_add"], params)
        task = self._models.tasks.start(
            "dataset", f"{params.name}@{params.semver}", work, again=again
        )
        return await result_of(task, api.DatasetInfo)

    async def _add(self, wanted: WantedDataset, task: Task) -> api.DatasetInfo:
        known, sent = await self._models.datasets.add(wanted, task=task)
        await self._models.refresh()
        layout = await trio.to_thread.run_sync(read_layout, wanted.path)
        manifest = known.manifest
        return api.DatasetInfo(
            ref=f"{manifest.name}@{manifest.semver}",
            cid=str(known.cid),
            rows=layout.head.rows,
            size_bytes=manifest.total_bytes,
            price=str(wanted.price),
            registered=known.is_registered,
            local=True,
            publisher=address_text(manifest.publisher),
            tx_id=tx_text(sent),
            queued="" if sent is None else sent.queued,
        )

    async def list(self, _params: NoParams, _caller: Caller) -> api.DatasetList:
        """Datasets on the ledger."""
        held = set(self._models.held())
        return api.DatasetList(
            items=tuple(
                api.DatasetInfo(
                    ref=f"{one.name}@{one.semver}",
                    cid=str(decode_cid(one.manifest)),
                    rows=one.rows,
                    size_bytes=one.total_bytes,
                    price=str(one.price),
                    registered=True,
                    local=one.manifest in held,
                    publisher=address_text(one.publisher),
                )
                for one in self._driver.ledger.view.datasets()
            )
        )
