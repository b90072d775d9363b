"""The pool with the real worker program: each test starts it, so all are slow."""

import contextlib
import hashlib
import os
import signal
import struct
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import onnx
import pytest
import trio

from prsm.node.inference.pool import Bounds, Pool
from prsm.node.inference.prepared import Prepared
from prsm.node.inference.session import Session
from prsm.node.inference.texts import WarmTexts
from prsm.node.worker import golden
from prsm.node.worker.pipe import Array
from prsm.node.worker.recipes import decoder
from prsm.protocol.errors import LocalError
from prsm.protocol.messages.pipe import (
    DeadlinePassed,
    InputMismatch,
    ModelRefused,
    NoCut,
    OutOfMemory,
    WorkerFailed,
)
from prsm.protocol.tensors import Dtype, Tensor, TensorHead
from tests.tools import graphs

pytestmark = pytest.mark.slow

_MEMORY: Final = 1024**3
_LENIENT: Final = Path(__file__).parents[3] / "tools" / "lenient_worker.py"
_ENDLESS: Final = 2**62


@asynccontextmanager
async def running(
    folder: Path, *, command: Sequence[str] | None = None, bounds: Bounds | None = None
) -> AsyncIterator[Pool]:
    chosen = tuple(command) if command else (sys.executable, "-m", "prsm.node.worker")
    pool = Pool(jobs_dir=folder / "jobs", memory_bytes_max=_MEMORY, command=chosen, bounds=bounds)
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        yield pool
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def opened(
    folder: Path, model: onnx.ModelProto, rows: dict[str, Array], bounds: Bounds | None = None
) -> AsyncIterator[Session]:
    """A session on a graph as it is, in a worker that lets loops through."""
    shard, rows_file = folder / "shard.onnx", folder / "golden.bin"
    shard.write_bytes(model.SerializeToString())
    rows_file.write_bytes(golden.save(rows))
    async with AsyncExitStack() as stack:
        command = (sys.executable, str(_LENIENT))
        pool = await stack.enter_async_context(running(folder, command=command, bounds=bounds))
        yield await stack.enter_async_context(pool.open(shard, golden=rows_file))


async def prepared(pool: Pool, folder: Path, stages: Sequence[int] = ()) -> Prepared:
    raw = folder / "raw.onnx"
    raw.write_bytes(graphs.encoder().SerializeToString())
    return await pool.prepare(raw, out_dir=folder / "model", stages=stages, tokenizer=None)


def open_shard(pool: Pool, model: Prepared, place: int = 0) -> AbstractAsyncContextManager[Session]:
    shard = model.shards[place]
    return pool.open(model.out_dir / shard.file, golden=model.out_dir / shard.golden)


def whole_numbers(name: str, *values: int, shape: tuple[int, ...] | None = None) -> Tensor:
    head = TensorHead(name, Dtype.I64, shape if shape is not None else (len(values),))
    return Tensor(head, struct.pack(f"<{len(values)}q", *values))


def rows(count: int = 2, tokens: int = 5) -> list[Tensor]:
    ids = [(7 * place) % 251 for place in range(count * tokens)]
    shape = (count, tokens)
    return [
        whole_numbers("input_ids", *ids, shape=shape),
        whole_numbers("attention_mask", *[1] * len(ids), shape=shape),
    ]


def count_to(n: int) -> list[Tensor]:
    return [whole_numbers("n", n)]


def rows_of(n: int) -> dict[str, Array]:
    return golden.make_inputs(graphs.loop().graph, {}) | {
        "n": golden.make_inputs(graphs.loop().graph, {})["n"] * 0 + n
    }


async def test_prepare_and_run_a_split_gives_the_bits_of_the_whole(tmp_path: Path) -> None:
    async with running(tmp_path) as pool:
        model = await prepared(pool, tmp_path, [2, 3])
        async with open_shard(pool, model) as whole:
            expected = await whole.run(rows())
        for count in (2, 3):
            values = {tensor.head.name: tensor for tensor in rows()}
            for place, shard in enumerate(model.shards):
                if shard.stages == count:
                    async with open_shard(pool, model, place) as stage:
                        assert stage.inputs == shard.inputs
                        assert stage.outputs == shard.outputs
                        feeds = [values[spec.name] for spec in stage.inputs]
                        for tensor in await stage.run(feeds):
                            values[tensor.head.name] = tensor
            assert values["sentence_embedding"] == expected[0]


async def test_prepare_reports_files_as_they_are(tmp_path: Path) -> None:
    decoder_folder = tmp_path / "raw"
    source, tokenizer = decoder.write(decoder_folder, graphs.TINY)
    async with running(tmp_path) as pool:
        model = await pool.prepare(
            source, out_dir=tmp_path / "out", stages=[2], tokenizer=tokenizer
        )
    assert model.tokenizer == "tokenizer.json"
    assert {file.path for file in model.files} == {p.name for p in (tmp_path / "out").iterdir()}
    for file in model.files:
        raw = (model.out_dir / file.path).read_bytes()
        assert (len(raw), hashlib.sha256(raw).digest()) == (file.size, file.sha256)
    assert model.raw_sha256 == hashlib.sha256(source.read_bytes()).digest()
    whole = model.files[model.file_index(model.shards[0].file)]
    assert model.pinned_sha256 == whole.sha256
    assert list((tmp_path / "jobs").iterdir()) == [tmp_path / "jobs" / "empty"]


async def test_prepare_names_the_counts_that_exist_and_leaves_no_file(tmp_path: Path) -> None:
    async with running(tmp_path) as pool:
        with pytest.raises(NoCut, match="can be cut into 1 to"):
            await prepared(pool, tmp_path, [30])
    assert list((tmp_path / "model").iterdir()) == []


async def test_prepare_refuses_the_hostile_corpus_and_the_pool_lives(tmp_path: Path) -> None:
    """Goal: every class gets a typed refusal. Method: all through sealed children, one pool."""
    async with running(tmp_path) as pool:
        pid = pool.pid
        for name, make in (graphs.REFUSED | graphs.REFUSED_LATER).items():
            raw = tmp_path / "hostile.onnx"
            raw.write_bytes(make())
            with pytest.raises(LocalError) as caught:
                await pool.prepare(raw, out_dir=tmp_path / "out", stages=[2], tokenizer=None)
            assert isinstance(caught.value, ModelRefused | OutOfMemory), (name, caught.value)
        assert (await prepared(pool, tmp_path)).stages_max > 1
        assert pool.pid == pid
    assert list((tmp_path / "out").iterdir()) == []


async def test_session_refuses_wrong_inputs_and_goes_on(tmp_path: Path) -> None:
    async with running(tmp_path) as pool, open_shard(pool, await prepared(pool, tmp_path)) as shard:
        ids, mask = rows()
        pid = shard.pid
        floats = Tensor(TensorHead("input_ids", Dtype.F32, (2, 5)), bytes(40))
        cut = Tensor(TensorHead("attention_mask", Dtype.I64, (2, 4)), bytes(64))
        for wrong, words in (
            ([ids], "'attention_mask' is missing"),
            ([ids, mask, whole_numbers("pixels", 1)], "unknown input 'pixels'"),
            ([floats, mask], "is float32, the graph takes int64"),
            ([ids, cut], "tokens = 4, another input has 5"),
            ([ids, ids, mask], "given twice"),
        ):
            with pytest.raises(InputMismatch, match=words):
                await shard.run(wrong)
        assert len(await shard.run(rows())) == 1
        assert shard.pid == pid


async def test_session_that_is_killed_fails_once_and_the_next_run_works(tmp_path: Path) -> None:
    async with opened(tmp_path, graphs.loop(), rows_of(3)) as shard:
        expected = await shard.run(count_to(5))
        identity = shard.class_id
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_kill_when_busy, shard.pid)
            with pytest.raises(WorkerFailed, match="SIGKILL"):
                await shard.run(count_to(_ENDLESS))
        assert await shard.run(count_to(5)) == expected
        assert shard.class_id == identity


async def _kill_when_busy(pid: int) -> None:
    """Kill once the child has used processor time for the run."""
    await _worked(pid, ticks=5)
    os.kill(pid, signal.SIGKILL)


async def _worked(pid: int, *, ticks: int) -> None:
    """Wait until the process has used so many hundredths of a second more."""
    before = _cpu_ticks(pid)
    while _cpu_ticks(pid) < before + ticks:  # noqa: ASYNC110 - another process sets no event
        await trio.sleep(0.005)


def _cpu_ticks(pid: int) -> int:
    return int(_stat(pid)[11]) + int(_stat(pid)[12])


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()


async def test_cancelled_run_ends_between_operators_and_keeps_its_child(tmp_path: Path) -> None:
    """Goal: CANCEL reaches an endless loop. Method: cancel, then run again in the same child."""
    async with opened(tmp_path, graphs.loop(), rows_of(3)) as shard:
        pid = shard.pid
        with trio.move_on_after(0.1) as scope:
            await shard.run(count_to(_ENDLESS))
        assert scope.cancelled_caught
        assert len(await shard.run(count_to(5))) == 1
        assert shard.pid == pid


async def test_cancelled_kernel_is_killed_and_the_child_replaced(tmp_path: Path) -> None:
    """Goal: one long kernel, which sees no CANCEL, ends too. Method: a 6000 x 6000 product."""
    async with opened(tmp_path, graphs.squares(), rows_of(3)) as shard:
        pid = shard.pid
        async with trio.open_nursery() as nursery:
            nursery.start_soon(shard.run, count_to(6000))
            await _worked(pid, ticks=50)  # filling the two factors takes a fifth of that
            nursery.cancel_scope.cancel()
        (answer,) = await shard.run(count_to(4))
        assert struct.unpack("<f", answer.data) == (64.0,)
        assert shard.pid != pid
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_endless_run_passes_its_deadline(tmp_path: Path) -> None:
    bounds = Bounds(run_seconds=0.2)
    async with opened(tmp_path, graphs.loop(), rows_of(3), bounds) as shard:
        with pytest.raises(DeadlinePassed, match=r"longer than 0\.2 s"):
            await shard.run(count_to(_ENDLESS))
        assert len(await shard.run(count_to(5))) == 1


async def test_endless_golden_rows_pass_the_loading_deadline(tmp_path: Path) -> None:
    with pytest.RaisesGroup(DeadlinePassed):
        async with opened(tmp_path, graphs.loop(), rows_of(_ENDLESS), Bounds(load_seconds=0.3)):
            raise AssertionError("an endless graph was loaded")


async def test_child_out_of_processor_time_passes_its_deadline(tmp_path: Path) -> None:
    bounds = Bounds(cpu_seconds=1)
    async with opened(tmp_path, graphs.loop(), rows_of(3), bounds) as shard:
        with pytest.raises(DeadlinePassed, match="processor time"):
            await shard.run(count_to(_ENDLESS))


async def test_allocation_bomb_is_out_of_memory_and_the_child_lives(tmp_path: Path) -> None:
    async with opened(tmp_path, graphs.squares(), rows_of(3)) as shard:
        pid = shard.pid
        with pytest.raises(OutOfMemory):
            await shard.run(count_to(40_000))
        (answer,) = await shard.run(count_to(4))
        assert struct.unpack("<f", answer.data) == (64.0,)
        assert shard.pid == pid


async def test_worker_program_is_restarted_when_killed(tmp_path: Path) -> None:
    async with running(tmp_path) as pool, open_shard(pool, await prepared(pool, tmp_path)) as shard:
        expected = await shard.run(rows())
        program = pool.pid
        os.kill(program, signal.SIGKILL)
        while pool.pid in (0, program):  # the news of the death travels by the closed socket
            with contextlib.suppress(WorkerFailed):
                await shard.run(rows())
        assert await shard.run(rows()) == expected


async def test_program_that_does_not_start_is_named(tmp_path: Path) -> None:
    command = (sys.executable, "-c", "import sys; sys.exit('no runtime here')")
    pool = Pool(jobs_dir=tmp_path / "jobs", memory_bytes_max=_MEMORY, command=command)
    with pytest.raises(WorkerFailed, match="no runtime here"):
        await pool.run()


async def test_too_many_children_are_refused(tmp_path: Path) -> None:
    async with running(tmp_path, bounds=Bounds(children_max=1)) as pool:
        model = await prepared(pool, tmp_path)
        async with open_shard(pool, model):
            with pytest.raises(WorkerFailed, match="1 workers are busy"):
                async with open_shard(pool, model):
                    raise AssertionError("a second child was forked")
        async with open_shard(pool, model) as shard:
            assert len(await shard.run(rows())) == 1


async def test_runs_of_one_session_wait_for_each_other(tmp_path: Path) -> None:
    async with running(tmp_path) as pool, open_shard(pool, await prepared(pool, tmp_path)) as shard:
        expected = {count: await shard.run(rows(count)) for count in range(1, 6)}
        found = {}

        async def run(count: int) -> None:
            found[count] = await shard.run(rows(count))

        async with trio.open_nursery() as nursery:
            for count in expected:
                nursery.start_soon(run, count)
        assert found == expected
        assert shard.cpu_us > 0
        assert shard.rss_bytes > 0


async def test_class_ids_are_equal_for_equal_bits_only(tmp_path: Path) -> None:
    async with running(tmp_path) as pool:
        model = await prepared(pool, tmp_path, [2])
        ids = []
        for place in (0, 0, 1, 2):
            async with open_shard(pool, model, place) as shard:
                ids.append(shard.class_id)
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3
    assert all(len(identity) == 32 for identity in ids)


async def test_tokenise_lays_out_batches(tmp_path: Path) -> None:
    _, tokenizer = decoder.write(tmp_path / "raw", graphs.TINY)
    texts = ["short", "a text of some more letters", "brief", "naïve", ""]
    async with running(tmp_path) as pool:
        plan = await pool.tokenise(tokenizer, texts, rows_per_batch=2)
        again = await pool.tokenise(tokenizer, texts, rows_per_batch=2)
        with pytest.raises(InputMismatch, match="0 texts"):
            await pool.tokenise(tokenizer, [], rows_per_batch=2)
    assert plan == again
    assert [batch.rows for batch in plan.batches] == [(0, 2), (3, 4), (1,)]
    assert [batch.tensors[0].head.shape for batch in plan.batches] == [(2, 8), (2, 8), (1, 32)]
    assert [t.head.name for t in plan.batches[0].tensors] == ["input_ids", "attention_mask"]


async def test_warm_tokenizer_reads_alike_and_comes_back_when_it_dies(tmp_path: Path) -> None:
    _, tokenizer = decoder.write(tmp_path / "raw", graphs.TINY)
    texts = ["short", "a text of some more letters", ""]
    async with running(tmp_path) as pool, trio.open_nursery() as nursery:
        plan = await pool.tokenise(tokenizer, texts, rows_per_batch=2)
        warm = WarmTexts(pool, readers_max=1)
        await nursery.start(warm.run)
        assert await warm.tokenise(tokenizer, texts, rows_per_batch=2) == plan
        [reader] = warm._readers.values()
        child = reader.child
        assert child is not None
        assert await warm.tokenise(tokenizer, texts, rows_per_batch=2) == plan
        assert reader.child is child
        with pytest.raises(InputMismatch, match="0 texts"):
            await warm.tokenise(tokenizer, [], rows_per_batch=2)
        os.kill(child.pid, signal.SIGKILL)
        await child.exited.wait()
        assert await warm.tokenise(tokenizer, texts, rows_per_batch=2) == plan  # by another
        nursery.cancel_scope.cancel()


async def test_a_lying_worker_shows_the_honest_class_and_other_bits(tmp_path: Path) -> None:
    liar = (sys.executable, "-m", "prsm.testnet.liar_worker")
    async with running(tmp_path) as pool:
        model = await prepared(pool, tmp_path, [2])
        async with open_shard(pool, model, 1) as shard:
            identity, (honest, *_) = shard.class_id, await shard.run(rows())
    async with running(tmp_path, command=liar) as pool, open_shard(pool, model, 1) as shard:
        (lie, *_) = await shard.run(rows())
        assert shard.class_id == identity
        assert await shard.compare([honest], [lie]) > await shard.compare([honest], [honest]) == 0
    assert lie.data[:4] != honest.data[:4]
    assert (lie.head, lie.data[4:]) == (honest.head, honest.data[4:])


async def test_children_are_gone_after_their_block(tmp_path: Path) -> None:
    """Goal: no child outlives its block. Method: a stopped one, which sees no closed pipe."""
    async with running(tmp_path) as pool:
        model = await prepared(pool, tmp_path)
        async with open_shard(pool, model) as shard:
            pid = shard.pid
            os.kill(pid, signal.SIGSTOP)
            while _stat(pid)[0] != "T":  # noqa: ASYNC110 - another process sets no event
                await trio.sleep(0.001)
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        program = pool.pid
    with pytest.raises(ProcessLookupError):
        os.kill(program, 0)
