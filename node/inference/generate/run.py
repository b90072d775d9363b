"""One generation of ours, step by step: tokens, routes, sessions, text as it comes, the bill.

Everything that can be refused is refused before money is locked. A reader that stays behind stops
the steps: token, text and reader are joined by bounded channels. Must not know how steps are done.
"""

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Final

import trio

from prsm.node.inference.commits import wait_time
from prsm.node.inference.estimate import memory_needed
from prsm.node.inference.generate import bill
from prsm.node.inference.generate.book import batch_plan
from prsm.node.inference.generate.course import Course, NoSubstitute, Patience, Place
from prsm.node.inference.generate.generation import Finish, Generation, GenerationState
from prsm.node.inference.generate.moving import Mover
from prsm.node.inference.generate.route import Wanted
from prsm.node.inference.generate.routes import Routes
from prsm.node.inference.generate.speech import Speaking, Speech
from prsm.node.inference.generate.stage import HomeStage, Stage
from prsm.node.inference.interface import Halted, JobFacts, PolicyRefused, ReceiptStore
from prsm.node.inference.jobrun import Requester
from prsm.node.inference.links import WorkerLost
from prsm.node.inference.planner import NoCutForK
from prsm.node.inference.runner import Stepping
from prsm.node.telemetry import metrics
from prsm.protocol.errors import Unsupported
from prsm.protocol.generating import KvShape, kv_shape
from prsm.protocol.messages.models import ModelManifest, Shard
from prsm.protocol.messages.pipe import InputMismatch
from prsm.protocol.receipts import WorkKind

TOKENS_MAX: Final = 65_536  # prompt and answer of one generation
_AHEAD: Final = 8  # tokens that wait for the tokenizer

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Model:
    manifest: ModelManifest
    shards: tuple[Shard, ...]
    shapes: tuple[KvShape, ...]


class GenerationRun:
    """The steps of one generation."""

    def __init__(
        self,
        generation: Generation,
        requester: Requester,
        speaking: Speaking | None,
        notes: ReceiptStore,
        patience: Patience,
    ) -> None:
        self._it, self._with, self._patience = generation, requester, patience
        self._speaking, self._notes = speaking, notes
        self.routes: Routes | None = None
        self._mover: Mover | None = None
        self._finish: Finish = "length"

    async def run(self) -> None:
        """All steps until the text is complete and its receipts are there.

        Raises:
            PrsmError: refused before the lock, or a stage was lost for good after it.
        """
        with self._it.lapse("plan"):
            model = await self._prepare()
        if self._speaking is None or model.manifest.tokenizer is None:
            raise Unsupported(
                f"model {model.manifest.name} has no tokenizer, or this node runs none",
                hint="add the model with its tokenizer.json, and executor.enabled = true",
            )
        tokenizer = await self._with.models.file(self._it.request.model, model.manifest.tokenizer)
        async with self._speaking(tokenizer) as speech:
            prompt = await speech.spell(self._it.request.prompt)
            self._check_prompt(prompt)
            async with self._course(model, len(prompt)) as course:
                self._it.recoveries, self._it.stages = course.recoveries, course.names
                with self._it.lapse("run"):
                    await self._generate(course, speech, prompt)
                self._it.enter(GenerationState.SETTLING)
                with self._it.lapse("receipt"):
                    await self._collect()

    async def settle(self) -> None:
        """Settle what was shown, as blocks go on, and fetch back the rest after the deadline."""
        chain = self._with.chain
        if self._it.receipts:
            with self._it.lapse("settle"):
                await self._settle_all()
        self._it.enter(GenerationState.DONE)
        async with trio.open_nursery() as nursery:
            for route in (*self.routes.locked, *self.routes.sent) if self.routes else ():
                nursery.start_soon(bill.reclaim, chain, route.job, self._notes)

    async def _settle_all(self) -> None:
        chain, shown = self._with.chain, self._it.receipts
        left = list(shown)
        while left:
            tried_ms = chain.block_time_ms()
            left = [receipt for receipt in left if not await bill.settle(chain, receipt, shown)]
            open_jobs = {
                receipt.job
                for receipt in left
                if (job := chain.job(receipt.job)) is not None
                and job.is_open
                and job.verdicts[receipt.unit] is None
            }
            left = [receipt for receipt in left if receipt.job in open_jobs]
            if left:
                await wait_time(chain, tried_ms + bill.AGAIN_MS)

    # -- before money moves

    async def _prepare(self) -> _Model:
        request, chain = self._it.request, self._with.chain
        if chain.is_halted(request.model):
            raise Halted(f"model {request.model.hex()[:16]} is halted on the ledger")
        manifest = await self._with.models.manifest(request.model)
        shards = tuple(
            sorted((s for s in manifest.shards if s.stages == request.stages), key=_index)
        )
        if [shard.index for shard in shards] != list(range(request.stages)):
            exist = sorted({shard.stages for shard in manifest.shards})
            raise NoCutForK(
                f"{manifest.name} is not cut into {request.stages} stages, it is into "
                f"{', '.join(map(str, exist))}",
                value=request.stages,
                limit=tuple(exist),
                hint=f"ask for {exist[0]} stages, or prepare the model with more cuts",
            )
        shapes = tuple(kv_shape(shard.inputs, shard.outputs) for shard in shards)
        names = [(a.made.name, b.carried.name) for a, b in pairwise(shapes)]
        is_chain = shapes[0].is_first and shapes[-1].is_last and all(a == b for a, b in names)
        if not is_chain or not any(shape.cache for shape in shapes):
            raise Unsupported(
                f"the stages of {manifest.name} are no chain from tokens to logits",
                hint="a model that generates has a cache, as that of `prsm model build tiny-gpt`; "
                "`prsm run` computes other models",
            )
        facts = JobFacts(
            job=self._it.id,
            tenant=request.tenant,
            requester=chain.address,
            kind=WorkKind.GENERATE,
            model=request.model,
            rows=request.tokens_max,
        )
        if why := self._with.policy.before(facts):
            raise PolicyRefused(why)
        return _Model(manifest, shards, shapes)

    def _check_prompt(self, prompt: Sequence[int]) -> None:
        total = len(prompt) + self._it.request.tokens_max
        if not prompt:
            raise InputMismatch("the prompt has no tokens", hint="give some text to go on from")
        if total > TOKENS_MAX:
            raise InputMismatch(f"{total} tokens with the prompt, at most {TOKENS_MAX}")
        self._it.prompt_tokens = len(prompt)

    # -- the course

    @asynccontextmanager
    async def _course(self, model: _Model, prompt: int) -> AsyncIterator[Course]:
        """Sessions at all stages; they are told when no more comes."""
        request = self._it.request
        rows = batch_plan(prompt, request.tokens_max)
        if request.home < request.stages:
            wanted = Wanted(
                model=request.model,
                runtime=model.manifest.compute.runtime,
                stages=request.stages,
                first=request.home,
                rows=rows,
                shapes=model.shapes,
                rooms=tuple(memory_needed(shard) for shard in model.shards),
                sampling=request.sampling,
                price_cap=request.price_cap,
                deadline_ms=request.deadline_ms,
                tenant=request.tenant,
            )
            self.routes = Routes(self._with.links, wanted, self._notes, self._with.market)
            try:
                with self._it.lapse("lock"):
                    await self.routes.lock(has_spare=request.has_spare)
            finally:
                self._note_locks()
        async with AsyncExitStack() as stack:
            places = [
                Place(index, shape, await self._stage(model, index, sum(rows), stack))
                for index, shape in enumerate(model.shapes)
            ]
            course = Course(
                places,
                _Relief(self.routes),
                self._with.clock,
                replay=request.replay,
                patience=self._patience,
            )
            self._it.sittings = course.sittings
            if self.routes is not None:
                departures = self._with.links.departures
                self._mover = Mover(course, _Relief(self.routes), departures, positions=sum(rows))
            try:
                await course.open()
                yield course
            finally:
                course.end()
                self._note_locks()

    async def _stage(
        self, model: _Model, index: int, positions: int, stack: AsyncExitStack
    ) -> Stage:
        request, models = self._it.request, self._with.models
        if index >= request.home:
            assert self.routes is not None
            return self.routes.stage(index)
        shard = model.shards[index]
        using = partial(models.using, request.model, holder=f"generation, stage {index}")
        path = await stack.enter_async_context(using(shard.file))
        golden = await stack.enter_async_context(using(shard.golden))
        weights = [await stack.enter_async_context(using(place)) for place in shard.weights]
        opened = self._with.runner.open(path, golden=golden, weights=weights)
        session = await stack.enter_async_context(opened)
        if not isinstance(session, Stepping):
            raise Unsupported("this runner keeps no caches of generating sessions")
        return HomeStage(
            session, model.shapes[index], number=1, positions=positions, sampling=request.sampling
        )

    def _note_locks(self) -> None:
        if self.routes is not None:
            routes = (*self.routes.locked, *self.routes.sent)
            self._it.jobs = tuple(route.job for route in routes)
            self._it.locked = self.routes.amount

    # -- tokens and text

    async def _generate(self, course: Course, speech: Speech, prompt: Sequence[int]) -> None:
        send, receive = trio.open_memory_channel[int](_AHEAD)
        self._note_locks()
        self._it.opened_ms = self._with.clock.wall_ms() - self._it.made_ms
        self._it.enter(GenerationState.RUNNING)
        failed: list[Exception] = []

        async def choose() -> None:
            try:
                async with send:
                    await self._choose(course, speech, prompt, send)
            except Exception as error:  # noqa: BLE001 - raised below, out of the nursery's group
                failed.append(error)

        async with trio.open_nursery() as beside:
            if self._mover is not None:
                beside.start_soon(self._mover.run)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(choose)
                try:
                    await self._speak(speech, receive)
                except Exception as error:  # noqa: BLE001 - raised below, out of the nursery's group
                    failed.append(error)
                    nursery.cancel_scope.cancel()
            beside.cancel_scope.cancel()
        if failed:
            raise failed[0]
        self._it.end(self._finish)

    async def _choose(
        self,
        course: Course,
        speech: Speech,
        prompt: Sequence[int],
        send: trio.MemorySendChannel[int],
    ) -> None:
        clock, it = self._with.clock, self._it
        began = clock.monotonic_ms()
        token = await course.feed(prompt)
        first = clock.monotonic_ms()
        it.first_token_ms = first - began
        metrics.observe("prsm_time_to_first_token_seconds", it.first_token_ms / 1000)
        while True:
            it.tokens_ms = clock.monotonic_ms() - first
            if token in speech.ends:
                self._finish = "stop"
                return
            it.tokens.append(token)
            await send.send(token)
            if len(it.tokens) >= it.request.tokens_max:
                self._finish = "length"
                return
            try:
                token = await course.feed((token,))
            except InputMismatch as error:
                # The model has no more positions; a worker cannot tell it apart from other values.
                log.info("the answer ends at position %d: %s", course.position, error.what)
                self._finish = "context"
                return

    async def _speak(self, speech: Speech, receive: trio.MemoryReceiveChannel[int]) -> None:
        async with receive:
            async for token in receive:
                # The token goes to the first stage before it becomes text: that one is waited for.
                await trio.lowlevel.checkpoint()
                await self._it.put(await speech.say((token,)), 1)
        rest = await speech.say((), is_last=True)
        if rest:
            await self._it.put(rest, 1)

    async def _collect(self) -> None:
        if self.routes is not None:
            found = await bill.collect(self.routes.used, self._patience)
            receipts = sorted((*self.routes.shown, *found), key=bill.by_unit)
            self._it.receipts = tuple(receipts)
            self.routes.thank(receipts)


class _Relief:
    """Who takes over: our own pool makes a new child, a worker's stage goes to another worker."""

    def __init__(self, routes: Routes | None) -> None:
        self._routes = routes

    async def next(self, index: int, lost: Stage, why: WorkerLost) -> Stage:
        """As `Substitutes.next`."""
        await trio.lowlevel.checkpoint()
        if isinstance(lost, HomeStage):
            return lost
        if self._routes is None:
            raise NoSubstitute(f"stage {index} was lost: {why.what}")
        return await self._routes.next(index, lost, why)

    async def retire(self, stage: Stage) -> None:
        """As `Relief.retire`: nothing is owed at home."""
        if self._routes is not None:
            await self._routes.retire(stage)


def _index(shard: Shard) -> int:
    return shard.index
