"""Handlers of model_: models added, fetched, opened, checked, kept and given up.

Knows: models and tasks of this node. Must not know: transports, how any of it is done.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
import trio

from prsm.node.api.evaluations import score_infos
from prsm.node.api.forms import FormsApi
from prsm.node.api.intents import tx_text
from prsm.node.api.tasks import result_of, task_info
from prsm.node.api.typed import typed
from prsm.node.api.work import DTYPE_NAMES
from prsm.node.chain.outbox import Sent
from prsm.node.clock import utc_text
from prsm.node.models import Known, Models, Task, Wanted
from prsm.node.models.cardtext import read_card_text
from prsm.node.models.keeping import Stored
from prsm.node.models.mending import ASKS_NOBODY
from prsm.node.rpc.dispatch import Handler
from prsm.node.rpc.methods import models as api
from prsm.node.rpc.methods.tasks import TaskInfo
from prsm.node.rpc.spec import Caller, NoParams
from prsm.protocol.identity import public_key_of
from prsm.protocol.ids import address_text, parse_hex
from prsm.protocol.messages.models import TensorSpec
from prsm.storage.cid import decode_cid

_METHODS: Final = {method.name: method for method in api.METHODS}


class ModelsApi:
    """Answers about models.

    Args:
        models: of this node.
        is_stale: whether the network may know of more than this node's ledger does.
    """

    def __init__(self, models: Models, *, is_stale: Callable[[], bool] = lambda: False) -> None:
        self._models = models
        self._is_stale = is_stale

    def handlers(self) -> dict[str, Handler]:
        """Method name -> handler."""
        return {
            "model_add": self.add,
            "model_startAdd": self.start_add,
            "model_list": self.list,
            "model_get": self.get,
            "model_open": self.open,
            "model_pull": self.pull,
            "model_startPull": self.start_pull,
            "model_share": self.share,
            "model_push": self.push,
            "model_startPush": self.start_push,
            "model_verify": self.verify,
            "model_startVerify": self.start_verify,
            "model_pin": self.pin,
            "model_unpin": self.unpin,
            "model_remove": self.remove,
            **FormsApi(self._models, self._info).handlers(),
        }

    async def add(self, params: api.AddParams, _caller: Caller) -> api.ModelInfo:
        """Prepare, store and register a model on the node's disk."""
        task = self._task(params.task) or await self._add(params)
        return await result_of(task, api.ModelInfo)

    async def start_add(self, params: api.AddParams, _caller: Caller) -> TaskInfo:
        """The same, with the task at once."""
        return task_info(await self._add(params))

    async def list(self, _params: NoParams, _caller: Caller) -> api.Models:
        """Models held here or named on the ledger."""
        stored = await self._models.keeping.stored()
        return api.Models(items=tuple(self._row(k, stored) for k in await self._models.known()))

    async def get(self, params: api.RefParams, _caller: Caller) -> api.ModelDetail:
        """A model's manifest."""
        known = await self._models.find(params.ref, offline=params.offline)
        manifest = known.manifest
        # A manifest of a peer need not have the whole graph: then its ends are shown as unknown.
        whole = next((shard for shard in manifest.shards if shard.stages == 1), None)
        return api.ModelDetail(
            model=await self._info(known),
            kind=manifest.kind,
            licence=manifest.licence,
            created=utc_text(manifest.created_ms),
            runtime=manifest.compute.runtime,
            pinned_sha256=address_text(manifest.compute.pinned_sha256),
            tokenizer=manifest.tokenizer is not None,
            signed=manifest.signature is not None,
            sealed_for=tuple("0x" + key_id.hex() for key_id in manifest.sealing),
            inputs=tuple(_form(spec) for spec in whole.inputs) if whole else (),
            outputs=tuple(_form(spec) for spec in whole.outputs) if whole else (),
            files=tuple(
                {"path": file.path, "cid": str(decode_cid(file.root)), "size_bytes": file.size}
                for file in manifest.files
            ),
            parents=tuple(str(decode_cid(parent)) for parent in manifest.parents),
            scores=score_infos(self._models.view, known.cid.raw),
        )

    async def open(self, params: api.RefParams, _caller: Caller) -> api.Opened:
        """Where the plain files of a model lie."""
        cid, files = await self._models.open(params.ref, offline=params.offline)
        return api.Opened(
            cid=str(cid),
            items=tuple(
                api.OpenedFile(one.file.path, str(one.path), one.file.size) for one in files
            ),
        )

    async def pull(self, params: api.LongParams, caller: Caller) -> api.ModelInfo:
        """Fetch a model from peers; the work outlives the call."""
        task = self._task(params.task) or self._pull(params.ref, caller, offline=params.offline)
        return await result_of(task, api.ModelInfo)

    async def start_pull(self, params: api.RefParams, caller: Caller) -> TaskInfo:
        """The same, with the task at once."""
        return task_info(self._pull(params.ref, caller, offline=params.offline))

    async def share(self, params: api.ShareParams, _caller: Caller) -> api.ModelInfo:
        """Publish a sealed model for other readers; the work outlives the call."""
        add, remove = ([_reader(one) for one in each] for each in (params.add, params.remove))

        async def work(_task: Task) -> object:
            known, sent = await self._models.share(
                *(params.ref, params.semver), add=add, remove=remove, register=params.register
            )
            return await self._info(known, sent)

        again = typed(_METHODS["model_share"], params)
        subject = f"{params.ref} as {params.semver}"
        task = self._models.tasks.start("share", subject, work, again=again)
        return await result_of(task, api.ModelInfo)

    async def push(self, params: api.LongParams, _caller: Caller) -> api.Pushed:
        """Hand a model to IPFS daemons."""
        task = self._task(params.task) or self._push(params.ref)
        return await result_of(task, api.Pushed)

    async def start_push(self, params: api.RefParams, _caller: Caller) -> TaskInfo:
        """The same, with the task at once."""
        return task_info(self._push(params.ref))

    async def verify(self, params: api.LongParams, caller: Caller) -> api.Verified:
        """Hash every leaf of a model."""
        task = self._task(params.task) or self._verify(params.ref, caller)
        return await result_of(task, api.Verified)

    async def start_verify(self, params: api.RefParams, caller: Caller) -> TaskInfo:
        """The same, with the task at once."""
        return task_info(self._verify(params.ref, caller))

    async def pin(self, params: api.PinParams, caller: Caller) -> api.Pinned:
        """Keep a model; a task fetches it if it is not here."""
        known = await self._models.find(params.ref)
        cid = str(known.cid)
        await self._models.keeping.pin(known.manifest, params.name)
        keeping = self._models.keeping
        state, _ = keeping.standing(known.manifest, await keeping.stored())
        if state == "held":
            return api.Pinned(cid, params.name, "held")
        if self._models.offline:
            return api.Pinned(cid, params.name, "waiting")
        return api.Pinned(cid, params.name, "fetching", self._pull(params.ref, caller).id)

    async def unpin(self, params: api.PinParams, _caller: Caller) -> api.Unpinned:
        """Give a pin up."""
        known = await self._models.find(params.ref, offline=True)
        left = await self._models.keeping.unpin(known.manifest, params.name)
        return api.Unpinned(str(known.cid), params.name, left)

    async def remove(self, params: api.RefParams, _caller: Caller) -> api.Removed:
        """Delete a model's files here."""
        cid, gone = await self._models.remove(params.ref)
        return api.Removed(str(cid), gone.files, gone.freed_bytes, gone.shared)

    async def _add(self, params: api.AddParams) -> Task:
        card = None
        if params.card is not None:
            card = await trio.to_thread.run_sync(read_card_text, Path(params.card))
        wanted = Wanted(
            path=Path(params.path),
            name=params.name,
            semver=params.semver,
            stages=params.stages,
            tokenizer=None if params.tokenizer is None else Path(params.tokenizer),
            licence=params.licence,
            register=params.register,
            card=card,
            templates=tuple(map(Path, params.chat_template)),
            encrypt_to=tuple(_reader(text) for text in params.encrypt_to),
            sides=params.weights,
        )

        async def work(task: Task) -> object:
            known, sent = await self._models.add(wanted, task=task)
            return await self._info(known, sent)

        again = typed(_METHODS["model_add"], msgspec.structs.replace(params, task=None))
        return self._models.tasks.start("add", f"{params.name}@{params.semver}", work, again=again)

    def _pull(self, ref: str, caller: Caller, *, offline: bool = False) -> Task:
        self._models.resolve(ref)  # what nobody knows is refused before a task is made

        async def work(task: Task) -> object:
            return await self._info(await self._models.pull(ref, offline=offline, task=task))

        subject = f"{ref}{ASKS_NOBODY}" if offline else ref
        again = typed(_METHODS["model_pull"], api.LongParams(ref, offline=offline))
        return self._models.tasks.start("pull", subject, work, again=again, tenant=caller.tenant)

    def _push(self, ref: str) -> Task:
        self._models.resolve(ref)

        async def work(task: Task) -> object:
            cid, pushed = await self._models.push(ref, task=task)
            rows = tuple(
                api.PushedTo(one.name, not one.fault, one.sent_bytes, one.fault) for one in pushed
            )
            return api.Pushed(str(cid), all(row.ok for row in rows), rows)

        return self._models.tasks.start("push", ref, work, again=f"prsm model push {ref}")

    def _verify(self, ref: str, caller: Caller) -> Task:
        self._models.resolve(ref)

        async def work(task: Task) -> object:
            cid, checked = await self._models.verify(ref, task=task)
            return api.Verified(
                cid=str(cid),
                ok=all(not one.fault for one in checked),
                checked_bytes=sum(one.file.size for one in checked),
                items=tuple(
                    api.CheckedFile(
                        one.file.path,
                        str(decode_cid(one.file.root)),
                        one.file.size,
                        ok=not one.fault,
                        fault=one.fault,
                    )
                    for one in checked
                ),
            )

        return self._models.tasks.start(
            "verify", ref, work, again=f"prsm model verify {ref}", tenant=caller.tenant
        )

    def _task(self, task_id: str | None) -> Task | None:
        return None if task_id is None else self._models.tasks.get(task_id)

    async def _info(self, known: Known, sent: Sent | None = None) -> api.ModelInfo:
        return self._row(known, await self._models.keeping.stored(), sent)

    def _row(self, known: Known, stored: Stored, sent: Sent | None = None) -> api.ModelInfo:
        manifest, keeping = known.manifest, self._models.keeping
        state, held = keeping.standing(manifest, stored)
        return api.ModelInfo(
            ref=f"{manifest.name}@{manifest.semver}",
            cid=str(known.cid),
            name=manifest.name,
            semver=manifest.semver,
            size_bytes=manifest.total_bytes,
            held_bytes=held,
            state=state,
            stale=known.is_registered and self._is_stale(),
            local=known.is_held,
            registered=known.is_registered,
            sealed=bool(manifest.sealing),
            pins=keeping.pins(manifest, stored),
            stages=tuple(sorted({shard.stages for shard in manifest.shards})),
            publisher=address_text(manifest.publisher),
            tx_id=tx_text(sent),
            queued="" if sent is None else sent.queued,
            created=utc_text(manifest.created_ms),
        )


def _form(spec: TensorSpec) -> api.TensorForm:
    return api.TensorForm(spec.name, DTYPE_NAMES[spec.dtype], spec.shape)


def _reader(text: str) -> bytes:
    """The Ed25519 key of somebody who may read a sealed model."""
    if text.startswith("0x"):
        return parse_hex(text, size=32, what="key")
    return public_key_of(text)
