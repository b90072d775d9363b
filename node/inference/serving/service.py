"""Small requests answered at once: resolved, checked, from the cache or from a warm tab.

Everything that can be refused is refused before a slot is taken. Where a name is asked for, the
ledger says at each request which version that is, and tabs of another version are closed: a
rollback moves what is served. Must not know RPC. Source: docs/spec/work.md, "Serving".
"""

import logging
import secrets
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Protocol

import trio

from prsm.node.inference.batches import BatchPlan, check_inputs, restore, split_rows
from prsm.node.inference.interface import (
    Halted,
    JobFacts,
    MemoryReceipts,
    PolicyRefused,
    ReceiptStore,
)
from prsm.node.inference.jobrun import Requester
from prsm.node.inference.joining import ROWS_MAX, Tensors, rows_of
from prsm.node.inference.links import WorkerLost
from prsm.node.inference.pipeline import NoQuorumOfResults
from prsm.node.inference.planner import PriceOverCap
from prsm.node.inference.runner import Batches
from prsm.node.inference.serving.answers import Answers, KeptAnswer, answer_key
from prsm.node.inference.serving.health import HealthBook
from prsm.node.inference.serving.purse import Purse
from prsm.node.inference.serving.tab import TabKind
from prsm.node.inference.serving.tabs import ServingRules, Tabs, slot_rows
from prsm.node.inference.serving.turnstile import Turnstile
from prsm.protocol.errors import PrsmError, Unsupported
from prsm.protocol.messages.models import ModelManifest
from prsm.protocol.messages.pipe import InputMismatch
from prsm.protocol.receipts import WorkKind

ROWS_ASKED_MAX: Final = 256  # more is a job
PLACES: Final = 16  # requests at work at once: the credit of a tab
ROUTES_MAX: Final = 256
MASK: Final = "attention_mask"  # as the worker's tokenizer names it
TRIES: Final = 2  # a worker lost in the middle: once more, with another

log = logging.getLogger(__name__)


class Tokeniser(Protocol):
    """Turns texts into micro-batches: a runner, or one that keeps tokenizers warm."""

    async def tokenise(
        self, tokenizer: Path, texts: Sequence[str], *, rows_per_batch: int
    ) -> Batches:
        """As `Runner.tokenise`."""
        ...


@dataclass(frozen=True, slots=True)
class ServeRequest:
    """What is asked.

    Attributes:
        ref: name, name@version, name@channel, or a CID.
        inputs: graph inputs, rows along the first axis of each; or
        texts: one row each, for a model with a tokenizer.
        opinions: workers asked: 1 (checked by sampling), 2, or 3 of which two must agree.
        price_cap: micro-FTNS the request may cost at most, all micro-batches and second tries.
        tenant: for whom; requests of tenants are served in fair turns.
        is_fresh: not from the cache, nor into it.
    """

    ref: str
    inputs: Tensors = ()
    texts: tuple[str, ...] = ()
    opinions: int = 1
    price_cap: int | None = None
    tenant: bytes = b""
    is_fresh: bool = False


@dataclass(frozen=True, slots=True)
class Served:
    """The answer.

    Attributes:
        model: CID of the manifest that answered.
        outputs: rows in the order they were given.
        tabs: which the micro-batches went through; none from the cache.
        workers: accounts that held the answer.
        cached: micro-batches that came from the cache.
        batches: micro-batches.
        price: micro-FTNS the answers of now cost; nothing from the cache.
        tokens: of the texts, without padding; 0 for arrays.
    """

    model: bytes
    outputs: Tensors
    tabs: tuple[bytes, ...]
    workers: tuple[bytes, ...]
    cached: int
    batches: int
    price: int
    tokens: int


@dataclass(slots=True)
class _Piece:
    outputs: Tensors
    workers: tuple[bytes, ...]
    tab: bytes | None
    price: int = 0


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request whose model is known, and what may still be spent on it."""

    request: ServeRequest
    model: bytes
    manifest: ModelManifest
    purse: Purse

    def key(self, tensors: Tensors) -> bytes:
        return answer_key(self.model, tensors, opinions=self.request.opinions)

    def kind(self, tensors: Tensors) -> TabKind:
        return TabKind(self.model, slot_rows(rows_of(tensors)), self.request.opinions)


class Serving:
    """Answers requests from tabs.

    Args:
        requester: what jobs of ours work with.
        resolve: the CID a reference means now.
        tokeniser: keeps tokenizers warm; the runner itself if None.
        rules: bounds of tabs.
        notes: where ids of tabs survive until nothing is locked in them.
        new_id: of tabs; random outside tests.
    """

    def __init__(
        self,
        requester: Requester,
        resolve: Callable[[str], Awaitable[bytes]],
        *,
        tokeniser: Tokeniser | None = None,
        rules: ServingRules | None = None,
        notes: ReceiptStore | None = None,
        new_id: Callable[[], bytes] | None = None,
    ) -> None:
        self._with, self._resolve = requester, resolve
        self._tokeniser = tokeniser or requester.runner
        self.health, self.answers = HealthBook(), Answers()
        self.tabs = Tabs(
            requester,
            self.health,
            rules=rules or ServingRules(),
            notes=notes or MemoryReceipts(),
            new_id=new_id or (lambda: secrets.token_bytes(32)),
        )
        self.tabs.on_lost.append(self.answers.forget_worker)
        self.turnstile = Turnstile(PLACES, requester.clock.monotonic_ms)
        self._routes: OrderedDict[str, bytes] = OrderedDict()  # name -> CID it meant last

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep tabs and follow the ledger's names until cancelled."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.tabs.run)
            task_status.started()
            chain = self._with.chain
            while True:
                await chain.wait_height(chain.height() + 1)
                for ref, model in tuple(self._routes.items()):
                    if not self.tabs.kinds_of(model):  # nothing to move: looked at when asked
                        continue
                    try:
                        await self._route(ref)
                    except PrsmError as error:
                        log.info("%s is no name any more: %s", ref, error.what)
                        self._routes.pop(ref, None)

    async def ask(self, request: ServeRequest) -> Served:
        """Answer a request; the caller sets the deadline. Cancelled, the workers stop.

        Raises:
            PrsmError: which of the checks failed; `Busy` says when to ask again; `WorkerLost` and
                `NoQuorumOfResults` where no answer was to be had. `spent` of each is what slots
                were taken for, 0 before the first.
        """
        purse = Purse(request.price_cap)
        try:
            return await self._answer(request, purse)
        except PrsmError as error:
            error.spent = purse.taken
            raise

    async def _answer(self, request: ServeRequest, purse: Purse) -> Served:
        model = await self._route(request.ref)
        manifest = await self._with.models.manifest(model)
        plan = await self._batches(model, manifest, request)
        self._check(model, manifest, plan, request)
        asked = _Asked(request, model, manifest, purse)
        pieces: list[_Piece | None] = [None] * len(plan.batches)
        if len(plan.batches) == 1:
            pieces[0] = await self._piece(asked, plan.batches[0])
        else:
            await self._check_price(asked, plan)
            await self._all(asked, plan, pieces)
        done = [piece for piece in pieces if piece is not None]
        return Served(
            model=model,
            outputs=restore(plan, [piece.outputs for piece in done]),
            tabs=tuple(sorted({piece.tab for piece in done if piece.tab is not None})),
            workers=tuple(sorted({worker for piece in done for worker in piece.workers})),
            cached=sum(piece.tab is None for piece in done),
            batches=len(done),
            price=sum(piece.price for piece in done),
            tokens=_tokens(plan) if request.texts else 0,
        )

    async def warm(self, ref: str, *, rows: int = 1, opinions: int = 1) -> bytes:
        """Open a tab before the first request; the CID it is for."""
        model = await self._route(ref)
        manifest = await self._with.models.manifest(model)
        self.tabs.warm(TabKind(model, slot_rows(rows), opinions), manifest)
        return model

    # -- before anything is spent

    async def _route(self, ref: str) -> bytes:
        """The CID of a reference; where it is another than before, what was served moves over."""
        model = await self._resolve(ref)
        before = self._routes.get(ref)
        self._routes[ref] = model
        self._routes.move_to_end(ref)
        if len(self._routes) > ROUTES_MAX:
            self._routes.popitem(last=False)
        if before is not None and before != model:
            await self._move(ref, before, model)
        return model

    async def _move(self, ref: str, before: bytes, model: bytes) -> None:
        """Close the tabs of the version before, and open the like for the one that is meant now."""
        log.info("%s means another version now: tabs move over", ref)
        if before in self._routes.values():
            return  # another name still means it
        kinds = self.tabs.kinds_of(before)
        self.tabs.retire(before)
        manifest = await self._with.models.manifest(model)
        for kind in kinds:
            self.tabs.warm(TabKind(model, kind.rows, kind.opinions), manifest)

    async def _batches(
        self, model: bytes, manifest: ModelManifest, request: ServeRequest
    ) -> BatchPlan:
        if bool(request.texts) == bool(request.inputs):
            raise InputMismatch("give either texts or arrays")
        if not request.texts:
            return split_rows(request.inputs, ROWS_MAX)
        if manifest.tokenizer is None:
            raise Unsupported(
                f"model {manifest.name} has no tokenizer", hint="give arrays instead of texts"
            )
        path = await self._with.models.file(model, manifest.tokenizer)
        made = await self._tokeniser.tokenise(path, request.texts, rows_per_batch=ROWS_MAX)
        return BatchPlan(
            tuple(batch.rows for batch in made.batches),
            tuple(batch.tensors for batch in made.batches),
        )

    def _check(
        self, model: bytes, manifest: ModelManifest, plan: BatchPlan, request: ServeRequest
    ) -> None:
        rows = sum(plan.counts)
        if rows > ROWS_ASKED_MAX:
            raise InputMismatch(
                f"{rows} rows in a request, at most {ROWS_ASKED_MAX}", hint="prsm run takes more"
            )
        if self._with.chain.is_halted(model):
            raise Halted(f"model {model.hex()[:16]} is halted on the ledger")
        whole = next((shard for shard in manifest.shards if shard.stages == 1), None)
        if whole is None:
            raise Unsupported(f"{manifest.name} has no graph that runs whole", hint="prsm run")
        check_inputs(plan, whole.inputs)
        facts = JobFacts(
            job=bytes(32),
            tenant=request.tenant,
            requester=self._with.chain.address,
            kind=WorkKind.INFER,
            model=model,
            rows=rows,
        )
        if why := self._with.policy.before(facts):
            raise PolicyRefused(why)

    async def _check_price(self, asked: _Asked, plan: BatchPlan) -> None:
        """Refuse what costs more than is allowed in all, before the first slot is taken."""
        request = asked.request
        if request.price_cap is None:
            return
        kinds = Counter(
            asked.kind(tensors)
            for tensors in plan.batches
            if request.is_fresh or not self.answers.has(asked.key(tensors))
        )
        quote = Purse(request.price_cap)
        async with self.turnstile.turn(request.tenant, cost=1, size=0):
            for kind, times in kinds.items():
                check = partial(quote.check, times=times)
                price = await self.tabs.price(kind, asked.manifest, check)
                quote.take(price, times=times)

    # -- answers

    async def _all(self, asked: _Asked, plan: BatchPlan, pieces: list[_Piece | None]) -> None:
        """All micro-batches side by side; the first failure ends them."""
        failure: list[PrsmError] = []

        async def answer(place: int) -> None:
            try:
                pieces[place] = await self._piece(asked, plan.batches[place])
            except PrsmError as error:
                failure.append(error)
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for place in range(len(plan.batches)):
                nursery.start_soon(answer, place)
        if failure:
            raise failure[0]

    async def _piece(self, asked: _Asked, tensors: Tensors) -> _Piece:
        request, key = asked.request, asked.key(tensors)
        kept = None if request.is_fresh else self.answers.get(key)
        if kept is not None:
            await trio.lowlevel.checkpoint()
            return _Piece(kept.outputs, kept.workers, None)
        size = sum(len(tensor.data) for tensor in tensors)
        async with self.turnstile.turn(request.tenant, cost=_cost(tensors), size=size):
            piece = await self._from_tab(asked, tensors)
        if not request.is_fresh:
            self.answers.put(key, KeptAnswer(piece.outputs, piece.workers))
        return piece

    async def _from_tab(self, asked: _Asked, tensors: Tensors) -> _Piece:
        rows, kind = rows_of(tensors), asked.kind(tensors)
        failure: PrsmError | None = None
        for _ in range(TRIES):
            try:
                tab, slot = await self.tabs.slot(kind, asked.manifest, asked.purse)
            except PriceOverCap as error:  # what is left pays no second try: say what failed
                raise failure or error from None
            try:
                found = await tab.ask(slot, tensors)
            except (WorkerLost, NoQuorumOfResults) as error:
                failure = error
                continue
            for worker in found.workers:
                self.health.note_answer(
                    self.health.of(asked.model, worker),
                    rows=rows,
                    took_ms=found.took_ms,
                    now_ms=self._with.clock.wall_ms(),
                )
            price = tab.price_per_row * rows * len(found.workers)
            return _Piece(found.outputs, found.workers, tab.job, price)
        assert failure is not None
        raise failure


def _tokens(plan: BatchPlan) -> int:
    """Tokens a tokenizer made of texts: ones of the masks, int64 (batch, tokens)."""
    masks = (tensor for batch in plan.batches for tensor in batch if tensor.head.name == MASK)
    return sum(sum(memoryview(tensor.data).cast("q")) for tensor in masks)


def _cost(tensors: Tensors) -> int:
    """Elements of the first input."""
    count = 1
    for size in tensors[0].head.shape:
        count *= size
    return count
