"""A real decoder in sealed children: the same tokens whole, over stages, after a killed child."""

import os
import signal
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import trio

from prsm.node.clock import TrioClock
from prsm.node.inference.desk import Desk
from prsm.node.inference.generate.course import Replay
from prsm.node.inference.generate.generation import GenerateRequest, Generation
from prsm.node.inference.generate.service import Generations
from prsm.node.inference.generate.speech import speaking
from prsm.node.inference.generate.worker import Sessions
from prsm.node.inference.interface import AllowAll
from prsm.node.inference.jobrun import Requester
from prsm.node.inference.pool import Pool
from prsm.node.inference.prepared import Prepared
from prsm.node.inference.session import Session as RealSession
from prsm.node.inference.terms import Terms
from prsm.node.worker import session
from prsm.node.worker.recipes.decoder import Config, build_decoder, build_tokenizer
from prsm.protocol.generating import Sampling
from tests.integration.node.inference.test_real_pool import manifest_of, running
from tests.tools.work import MODEL, Cluster, MemoryModels, make_cluster
from tests.tools.work_chain import VERIFIER

pytestmark = pytest.mark.slow

PROMPT = "labs that do not trust"
COUNT = 24
LONG = 100  # more than wait for a reader, so that it is at work when it is first read
CONFIG = Config(layers=2, width=64, heads=2, positions=160)


def greedy(model: Prepared, count: int) -> list[int]:
    """The dumb twin: each token from all before it, in this process, without a cache."""
    whole = session.load((model.out_dir / model.shards[0].file).read_bytes())
    past = {
        spec.name: np.zeros((1, 2, 0, 32), np.float32)
        for spec in whole.inputs
        if spec.name.startswith("past")
    }
    ids = list(build_tokenizer().encode(PROMPT).ids)
    for _ in range(count):
        feeds = {"ids": np.array([ids]), "position_ids": np.arange(len(ids))[None, :], **past}
        logits = session.compute(whole, feeds, session.run_options())["logits"]
        ids.append(int(np.argmax(logits[0])))
    return ids[-count:]


async def prepared(pool: Pool, folder: Path) -> tuple[Prepared, MemoryModels]:
    raw, tokenizer = folder / "raw.onnx", folder / "tokenizer.json"
    raw.write_bytes(build_decoder(CONFIG).SerializeToString())
    tokenizer.write_text(build_tokenizer().to_str(), encoding="utf-8")
    model = await pool.prepare(raw, out_dir=folder / "m", stages=[2], tokenizer=tokenizer)
    place = next(i for i, file in enumerate(model.files) if file.path == "tokenizer.json")
    manifest = manifest_of(model)
    fields = {name: getattr(manifest, name) for name in manifest.__struct_fields__}
    return model, MemoryModels(type(manifest)(**{**fields, "tokenizer": place}), model.out_dir)


async def started(
    cluster: Cluster, pool: Pool, models: MemoryModels, nursery: trio.Nursery
) -> Generations:
    cluster.world.block_s = 0.02
    clock = TrioClock()
    sessions = []
    for node in cluster.nodes[1:]:
        desk = Desk(
            *(node.network, node.chain, models, node.shards, node.claims),
            *(AllowAll(), VERIFIER, clock),
        )
        sessions.append(Sessions(desk, Terms()))
    await cluster.start(nursery)
    for each in sessions:
        await nursery.start(each.run)
    asker = cluster.requester
    requester = Requester(asker.links, asker.chain, models, pool, AllowAll(), clock)
    generations = Generations(requester, partial(speaking, pool))
    await nursery.start(generations.run)
    return generations


async def say(
    generations: Generations, request: GenerateRequest, victims: list[int] | None = None
) -> Generation:
    """One generation; with victims these processes are killed in the middle."""
    name = generations.start(request)
    with trio.fail_after(60):
        while True:
            part = await generations.read(name, wait_ms=1000)
            while victims and part.tokens:
                with suppress(ProcessLookupError):  # killed before, and not needed since
                    os.kill(victims.pop(), signal.SIGKILL)
            if part.is_over:
                one = generations.get(name)
                assert one.error is None
                return one


async def test_tokens_are_those_of_the_whole_model(tmp_path: Path) -> None:
    async with running(tmp_path / "pool") as pool:
        model, models = await prepared(pool, tmp_path)
        cluster = make_cluster(3, runner=lambda _index: pool, models=models, price_per_row=0)
        async with trio.open_nursery() as nursery:
            generations = await started(cluster, pool, models, nursery)
            ask = partial(GenerateRequest, MODEL, PROMPT, tokens_max=COUNT)
            expected = greedy(model, LONG)
            for request in (ask(home=1), ask(stages=2), ask(stages=2, home=1)):
                assert (await say(generations, request)).tokens == expected[:COUNT]
            warm = Sampling(900, 40, 950, 7)
            texts = [
                (await say(generations, ask(sampling=warm, stages=stages))).tokens
                for stages in (1, 2)
            ]
            assert texts[0] == texts[1] != expected[:COUNT]
            for replay in Replay:
                children = [
                    cast("RealSession", line._session).pid
                    for node in cluster.nodes[1:]
                    for key, held in node.shards._held.items()
                    if key[1:] == (2, 1) and (line := held.session) is not None
                ]
                one = await say(
                    generations, ask(tokens_max=LONG, stages=2, replay=replay), children
                )
                assert one.tokens == expected
                assert [recovery.stage for recovery in one.recoveries] == [1]
            nursery.cancel_scope.cancel()
