"""Handlers of model_quantise, model_makeAdaptable and model_adapt.

Knows: models of this node. Must not know: transports, how weights are made smaller.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from prsm.node.api.tasks import result_of
from prsm.node.api.typed import typed
from prsm.node.chain.outbox import Sent
from prsm.node.inference.compression import Wish
from prsm.node.models import Known, Models, Task
from prsm.node.models.forms import WantedAdapted
from prsm.node.rpc.dispatch import Handler
from prsm.node.rpc.methods import forms as api
from prsm.node.rpc.methods.models import ModelInfo
from prsm.node.rpc.spec import Caller
from prsm.protocol.ids import address_text
from prsm.protocol.messages.forms import Compressed, Form, Samples
from prsm.storage.errors import NotFound

_FORMS: Final = {"int8": Form.INT8, "w8": Form.W8, "w4": Form.W4, "fp16": Form.FP16}
_METHODS: Final = {method.name: method for method in api.METHODS}
_MILLION: Final = 1_000_000
Describe = Callable[[Known, Sent | None], Awaitable[ModelInfo]]


class FormsApi:
    """Answers about other forms of models.

    Args:
        models: of this node.
        describe: how a model is shown.
    """

    def __init__(self, models: Models, describe: Describe) -> None:
        self._models, self._describe = models, describe

    def handlers(self) -> dict[str, Handler]:
        """Method name -> handler."""
        return {
            "model_quantise": self.quantise,
            "model_makeAdaptable": self.make_adaptable,
            "model_adapt": self.adapt,
        }

    async def quantise(self, params: api.QuantiseParams, _caller: Caller) -> api.Quantised:
        """Make weights smaller, and measure."""
        source, tokenizer = await self._source(params)
        out = None if params.out is None else Path(params.out)
        wish = Wish(
            source=source,
            form=_FORMS[params.to],
            tokenizer=tokenizer,
            samples=None if params.samples is None else Path(params.samples),
            kind=Samples.MADE_UP,
            is_measured=params.report,
        )
        return _report(params, await self._models.forms.compress(wish, out=out))

    async def make_adaptable(
        self, params: api.MakeAdaptableParams, _caller: Caller
    ) -> api.Adaptable:
        """Write a graph with inputs for an adapter."""
        made = await self._models.forms.make_adaptable(Path(params.path), Path(params.out))
        return api.Adaptable(params.out, tuple(api.AdapterSite(*site) for site in made.sites))

    async def adapt(self, params: api.AdaptParams, _caller: Caller) -> api.AdaptedModel:
        """Join a model and an adapter; the work outlives the call."""
        base = await self._models.find(params.ref)
        _, files = await self._models.open(params.ref)
        wanted = WantedAdapted(
            adapter=Path(params.adapter),
            name=params.name,
            semver=params.semver,
            licence=params.licence,
            register=params.register,
        )

        async def work(_task: Task) -> object:
            known, sent, sites = await self._models.forms.adapt(base, files, wanted)
            await self._models.refresh()
            return api.AdaptedModel(await self._describe(known, sent), sites)

        again = typed(_METHODS["model_adapt"], params)
        subject = f"{params.name}@{params.semver}"
        task = self._models.tasks.start("adapt", subject, work, again=again)
        return await result_of(task, api.AdaptedModel)

    async def _source(self, params: api.QuantiseParams) -> tuple[Path, Path | None]:
        """The graph and its tokenizer: files as named, or those of a model that is known here."""
        tokenizer = None if params.tokenizer is None else Path(params.tokenizer)
        if params.model.startswith("/"):
            return Path(params.model), tokenizer
        known = await self._models.find(params.model)
        _, files = await self._models.open(params.model)
        paths = {one.file.path: one.path for one in files}
        manifest = known.manifest
        whole = next((shard for shard in manifest.shards if shard.stages == 1), None)
        if whole is None:
            raise NotFound(f"{params.model} has no whole graph")
        if tokenizer is None and manifest.tokenizer is not None:
            tokenizer = paths[manifest.files[manifest.tokenizer].path]
        return paths[manifest.files[whole.file].path], tokenizer


def _report(params: api.QuantiseParams, done: Compressed) -> api.Quantised:
    return api.Quantised(
        to=params.to,
        size_bytes_before=done.base_bytes,
        size_bytes=done.found_bytes,
        sha256=address_text(done.sha256),
        batch_cpu_us_before=done.base_cpu_us,
        batch_cpu_us=done.found_cpu_us,
        row_cpu_us_before=done.base_row_cpu_us,
        row_cpu_us=done.found_row_cpu_us,
        rows_touch=done.rows_touch,
        figures=tuple(
            api.FormFigure(one.name, _decimal(one.base), _decimal(one.found))
            for one in done.figures
        ),
        file=params.out,
    )


def _decimal(millionths: int) -> str:
    return f"{millionths / _MILLION:.6f}"
