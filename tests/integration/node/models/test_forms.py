"""Other forms of a model, made by the real worker program and stored by the real store."""

import contextlib
import os
import signal
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import pytest
import trio
from safetensors.numpy import save

from prsm.node.inference.compression import Wish
from prsm.node.inference.pool import Pool
from prsm.node.inference.shards import ShardCache
from prsm.node.models import Known
from prsm.node.models.forms import WantedAdapted
from prsm.node.worker import lora
from prsm.node.worker.recipes import decoder
from prsm.protocol.errors import LocalError, Unsupported
from prsm.protocol.messages.forms import Form, Samples
from prsm.protocol.messages.models import rows_touch
from prsm.protocol.messages.pipe import InputMismatch, ModelRefused, WorkerFailed
from prsm.protocol.tensors import Dtype, Tensor, TensorHead
from prsm.storage.errors import Conflict, NotFound
from tests.tools import graphs
from tests.tools.model_rooms import Room, open_room, wanted

pytestmark = pytest.mark.slow
_TEXTS: Final = "\n".join(f"a worker signs receipt {n} of the job" for n in range(12))


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[tuple[Room, Pool]]:
    pool = Pool(jobs_dir=folder / "jobs", memory_bytes_max=1024**3)
    async with trio.open_nursery() as nursery, open_room(folder, pool=pool) as room:
        await nursery.start(pool.run)
        (folder / "raw.onnx").write_bytes(graphs.encoder().SerializeToString())
        yield room, pool
        nursery.cancel_scope.cancel()


def wish(folder: Path, form: Form, **paths: Path | None) -> Wish:
    return Wish(
        folder / "raw.onnx",
        form,
        paths.get("tokenizer"),
        paths.get("samples"),
        Samples.MADE_UP,
        is_measured=True,
    )


def adapter(folder: Path) -> Path:
    _, sites = lora.adaptable(graphs.encoder())
    dice = np.random.default_rng(5)
    arrays = {}
    for site in sites:
        arrays[site.name + lora.DOWN] = dice.standard_normal((site.rows, 2)).astype(np.float32)
        arrays[site.name + lora.UP] = dice.standard_normal((2, site.columns)).astype(np.float32)
    path = folder / "own.safetensors"
    path.write_bytes(save(arrays))
    return path


def rows() -> list[Tensor]:
    heads = [TensorHead(name, Dtype.I64, (1, 4)) for name in ("input_ids", "attention_mask")]
    values = ((5, 6, 7, 8), (1, 1, 1, 1))
    return [Tensor(head, struct.pack("<4q", *row)) for head, row in zip(heads, values, strict=True)]


async def test_smaller_forms_are_measured_and_written(tmp_path: Path) -> None:
    tokenizer, texts = tmp_path / "t.json", tmp_path / "texts.txt"
    tokenizer.write_text(decoder.build_tokenizer().to_str(), encoding="utf-8")
    texts.write_text(_TEXTS, encoding="utf-8")
    async with opened(tmp_path) as (room, _):
        forms = room.models.forms
        out = tmp_path / "small.onnx"
        done = await forms.compress(
            wish(tmp_path, Form.W8, tokenizer=tokenizer, samples=texts), out=out
        )
        assert out.stat().st_size == done.found_bytes < done.base_bytes
        assert [one.name for one in done.figures] == [
            *("cosine, mean", "cosine, least", "same nearest row"),
        ]
        assert done.figures[1].found > 990_000
        assert min(done.base_cpu_us, done.found_cpu_us, done.found_row_cpu_us) > 0
        with pytest.raises(Conflict, match="exists"):
            await forms.compress(wish(tmp_path, Form.W8), out=out)
        with pytest.raises(NotFound):
            await forms.compress(wish(tmp_path, Form.W8, samples=tmp_path / "none"), out=None)
        with pytest.raises(ModelRefused, match="texts need a tokenizer"):
            await forms.compress(wish(tmp_path, Form.W8, samples=texts), out=None)
        (tmp_path / "raw.onnx").write_bytes(b"no model")
        with pytest.raises(ModelRefused, match="no ONNX model"):
            await forms.compress(wish(tmp_path, Form.INT8), out=None)


async def test_added_int8_says_that_its_rows_touch_and_fp16_stays_small(tmp_path: Path) -> None:
    async with opened(tmp_path) as (room, _):
        sizes = {}
        for form in (Form.INT8, Form.FP16):
            out = tmp_path / f"{form.name}.onnx"
            await room.models.forms.compress(wish(tmp_path, form), out=out)
            known, _ = await room.models.add(wanted(out, name=form.name.lower()))
            manifest = known.manifest
            assert rows_touch(manifest.compute) == (form is Form.INT8)
            sizes[form] = manifest.files[manifest.shards[0].file].size
        whole = (tmp_path / "raw.onnx").stat().st_size
        assert max(sizes.values()) < 0.6 * whole


async def test_adapted_model_runs_with_its_adapter_and_is_a_class_of_its_own(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as (room, pool):
        forms, out = room.models.forms, tmp_path / "adaptable.onnx"
        made = await forms.make_adaptable(tmp_path / "raw.onnx", out)
        assert len(made.sites) == 12
        base, _ = await room.models.add(wanted(out))
        _, files = await room.models.open(str(base.cid))
        wish_for = WantedAdapted(adapter(tmp_path), "law", "1.0.0", "MIT", register=True)
        known, _, sites = await forms.adapt(base, files, wish_for)
        assert sites == 12
        assert known.manifest.parents == (base.cid.raw,)
        assert known.manifest.shards == base.manifest.shards
        assert (base.manifest.adapter, known.manifest.adapter) == (None, len(files))
        shard = known.manifest.shards[0]
        async with trio.open_nursery() as nursery:
            cache = ShardCache(pool, room.models)
            await nursery.start(cache.run)
            answers, classes = [], []
            for cid in (base.cid.raw, known.cid.raw):
                async with cache.use(cid, shard) as line:
                    answers.append(await line.run(rows()))
                    classes.append(line.class_id)
            nursery.cancel_scope.cancel()
        assert answers[0][0].data != answers[1][0].data
        assert classes[0] != classes[1]
        with pytest.raises(Unsupported, match="adapted model already"):
            await forms.adapt(known, files, wish_for)
        bad = tmp_path / "bad.safetensors"
        for raw in (b"", b"junk", save({"x.lora_a": np.ones((2, 2), np.float32)})):
            bad.write_bytes(raw)
            with pytest.raises(InputMismatch):
                await forms.adapt(base, files, replace(wish_for, adapter=bad))
        await _outlive_a_kill(pool, room, base, tmp_path)


async def _outlive_a_kill(pool: Pool, room: Room, base: Known, folder: Path) -> None:
    """A child that dies is replaced by one with the adapter."""
    shard = base.manifest.shards[0]
    graph, golden = [await room.models.file(base.cid.raw, i) for i in (shard.file, shard.golden)]
    async with pool.open(graph, golden=golden) as session:
        plain, before = await session.run(rows()), session.class_id
        assert await session.adapt(adapter(folder)) == 12
        adapted = await session.run(rows())
        os.kill(session.pid, signal.SIGKILL)
        with contextlib.suppress(WorkerFailed):
            await session.run(rows())
        assert (await session.run(rows()))[0].data == adapted[0].data != plain[0].data
        assert session.class_id != before


async def test_node_without_workers_says_so(tmp_path: Path) -> None:
    (tmp_path / "raw.onnx").write_bytes(b"x")
    async with open_room(tmp_path, pool=None) as room:
        with pytest.raises(LocalError, match="runs no models") as caught:
            await room.models.forms.compress(wish(tmp_path, Form.W4), out=None)
    assert "executor.enabled" in caught.value.hint
