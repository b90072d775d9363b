"""A registered dataset, read slice by slice from its file, in the order a model takes its inputs.

Knows: the form of the file. Must not know: what a label means, how the file came here.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from prsm.node.inference.interface import Models
from prsm.node.inference.transfer import check_heads
from prsm.protocol.errors import Unsupported
from prsm.protocol.messages.models import ModelManifest, Shard, TensorSpec
from prsm.protocol.messages.pipe import InputMismatch
from prsm.protocol.slices import (
    PREFIX_BYTES,
    BadSlices,
    Layout,
    SlicesHead,
    check_dataset,
    head_bytes,
    read_layout,
)
from prsm.protocol.tensors import Tensor

DATASET_KIND = "dataset"


class DatasetFile:
    """The slices of one dataset; valid inside `open_dataset`."""

    def __init__(self, path: Path, layout: Layout) -> None:
        self._path, self._layout = path, layout

    @property
    def head(self) -> SlicesHead:
        """What is in it."""
        return self._layout.head

    async def read(
        self, index: int, specs: Sequence[TensorSpec]
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        """Inputs of a slice in the order of the io table, and its labels.

        Raises:
            InputMismatch: the model takes other inputs.
            BadSlices, WireError: the file is shorter than its head says.
        """
        raw = await trio.to_thread.run_sync(self._bytes, index)
        *given, labels = self._layout.read(index, raw)
        by_name = {tensor.head.name: tensor for tensor in given}
        wanted = [spec.name for spec in specs]
        if sorted(by_name) != sorted(wanted):
            raise InputMismatch(f"the dataset has {sorted(by_name)}, the model takes {wanted}")
        inputs = tuple(by_name[name] for name in wanted)
        check_heads([tensor.head for tensor in inputs], specs, axes={})
        return inputs, labels

    def _bytes(self, index: int) -> bytes:
        start, size = self._layout.place(index)
        with self._path.open("rb") as file:
            file.seek(start)
            raw = file.read(size)
        if len(raw) != size:
            raise BadSlices(f"slice {index} ends after {len(raw)} of {size} bytes")
        return raw


@asynccontextmanager
async def open_dataset(models: Models, cid: bytes) -> AsyncIterator[DatasetFile]:
    """Fetch a dataset if it is not here, and keep it here while the block runs.

    Raises:
        Unsupported: the manifest is of something else.
        BadSlices, WireError: its file is no file of labelled slices.
        PrsmError: it is not to be had.
    """
    manifest = await models.manifest(cid)
    if manifest.kind != DATASET_KIND or len(manifest.files) != 1:
        raise Unsupported(
            f"{manifest.name} is of kind {manifest.kind!r}, no dataset of one file",
            hint="see: prsm dataset ls",
        )
    async with models.using(cid, 0, holder="evaluation") as path:
        layout = await trio.to_thread.run_sync(_layout, path)
        check_dataset(layout.head)
        yield DatasetFile(path, layout)


def whole_shard(manifest: ModelManifest) -> Shard:
    """The whole graph of a model.

    Raises:
        Unsupported: it has none, or is no model.
    """
    whole = next((shard for shard in manifest.shards if shard.stages == 1), None)
    if whole is None:
        raise Unsupported(
            f"{manifest.name} has no whole graph to evaluate",
            hint="add the model with one stage among its stages",
        )
    return whole


def _layout(path: Path) -> Layout:
    with path.open("rb") as file:
        prefix = file.read(PREFIX_BYTES)
        return read_layout(prefix + file.read(head_bytes(prefix)))
