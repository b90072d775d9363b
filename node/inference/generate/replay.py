"""Batches of a generating unit computed again: all before the asked one, in the same steps.

A batch of generated text hangs on the cache that all before it left, so a check fetches what went
into each of them, signed by the requester, and steps through a session of its own in the same
sizes: inside a class that gives the same bits. Must not know who asked for the check.
Source: docs/spec/work.md, "Audits".
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec
import trio

from prsm.consensus.ledger.records import Job
from prsm.node.inference.divergence import Boundary
from prsm.node.inference.evidence import Place
from prsm.node.inference.generate.book import leaves
from prsm.node.inference.generate.tape import STEPS, Statement, read_statement
from prsm.node.inference.inquiry import Ask, Inquiry, Served, Unserved
from prsm.node.inference.interface import Models
from prsm.node.inference.judging import Stated, check_comparable, judge, judge_apart
from prsm.node.inference.line import Line
from prsm.node.inference.shards import ShardCache
from prsm.node.inference.terms import find_shard
from prsm.protocol import merkle
from prsm.protocol.errors import Unsupported, WireError
from prsm.protocol.generating import KvShape, kv_shape
from prsm.protocol.messages.audit import Side
from prsm.protocol.messages.models import Shard, TensorSpec
from prsm.protocol.messages.steps import Step
from prsm.protocol.receipts import Feed, is_fed
from prsm.protocol.tensors import Dtype, Tensor
from prsm.protocol.transactions.audits import Finding

_END_S = 5.0


@dataclass(frozen=True, slots=True)
class Replayed:
    """The asked batch as we computed it.

    Attributes:
        boundary: its roots by our own run.
        made: the cut tensor, or the tokens of the last stage.
        class_id: of our child.
        shard: whose io table what is kept has: of a batch, not of the graph.
        is_last: are they tokens?
    """

    boundary: Boundary
    made: Tensor
    class_id: bytes
    shard: Shard
    is_last: bool


@dataclass(frozen=True, slots=True)
class Replay:
    """Computes batches of generating units again."""

    inquiry: Inquiry
    models: Models
    shards: ShardCache

    async def run(self, job: Job, ask: Ask) -> Replayed:
        """Step through the unit up to and with a batch.

        Raises:
            Unserved: nobody gave what went into one of them.
            NoTimeLeft: there was no time to look for it.
            PrsmError: the shard is not to be had, or does not run here.
        """
        place = ask.place
        spec = job.units[place.unit]
        manifest = await self.models.manifest(spec.model)
        shard = find_shard(manifest.shards, spec)
        shape = kv_shape(shard.inputs, shard.outputs)
        kept = _kept_shard(shard, shape)
        served: list[tuple[Served, Statement]] = []
        for batch in range(spec.first, place.batch + 1):
            at = sum(sum(said.sizes) for _, said in served)
            earlier = replace(place, batch=batch)
            one = await self.inquiry.fetch(
                replace(ask, place=earlier), kept, None, is_right=self._check(job, earlier, at)
            )
            served.append((one, read_statement(one.tensors[1])))
        async with self.shards.use(spec.model, shard) as line:
            made = await _step_through(line, shape, served)
            fed = _fed(replace(place, batch=place.batch), served[-1][0])
            after = merkle.root_of_leaves(leaves(made, is_flat=shape.is_last))
            boundary = Boundary(fed.input_root, fed.side_root, after)
            return Replayed(boundary, made, line.class_id, kept, shape.is_last)

    async def judge(self, job: Job, ask: Ask, stated: Stated) -> Finding:
        """Compare our own run with what the worker stated.

        Raises:
            Unserved: nobody gave what went in, with the stated roots, or the stated outputs.
            Unsupported: tokens or integers of another class: nobody can tell, and we say nothing.
            PrsmError: as `run`.
        """
        done, theirs = await self.run(job, ask), stated.boundary
        ours = done.boundary
        if (ours.input_root, ours.side_root) != (theirs.input_root, theirs.side_root):
            ask.sources.missing.add(ask.place)
            raise Unserved("nobody serves what the receipt says went in")
        is_same = done.class_id == stated.class_id
        if ours == theirs or is_same:
            return judge(ours, theirs, is_same_class=is_same, gap_ppb=0)
        if done.is_last:
            raise Unsupported("tokens are compared inside a determinism class only")
        spec = job.units[ask.place.unit]
        manifest = await self.models.manifest(spec.model)
        check_comparable(manifest.compute, done.shard.outputs)

        def is_stated(served: Served) -> bool:
            return merkle.root_of_leaves(leaves(served.tensors[0])) == theirs.output_root

        out = replace(ask, place=replace(ask.place, side=Side.OUT))
        answered = await self.inquiry.fetch(out, done.shard, None, is_right=is_stated)
        async with self.shards.use(spec.model, find_shard(manifest.shards, spec)) as line:
            return await judge_apart(line, [done.made], answered.tensors)

    def _check(self, job: Job, place: Place, at: int) -> Callable[[Served], bool]:
        chain_id, verifier = self.inquiry.chain.chain_id, self.inquiry.verifier

        def is_right(served: Served) -> bool:
            try:
                said = read_statement(served.tensors[1])
                said.chosen()
            except WireError:
                return False
            count = served.tensors[0].head.shape[1]
            is_next = (said.start, sum(said.sizes)) == (at, count)
            feed = _fed(place, served)
            return is_next and is_fed(feed, job.requester, chain_id=chain_id, verifier=verifier)

        return is_right


async def _step_through(
    line: Line, shape: KvShape, served: list[tuple[Served, Statement]]
) -> Tensor:
    """What the last of the batches gives."""
    number = (1 << 62) | secrets.randbits(61)  # no session of a peer has such a number
    quota = sum(sum(said.sizes) for _, said in served) * shape.bytes_per_position
    made: Tensor | None = None
    try:
        for one, said in served:
            carried = one.tensors[0]
            call = Step(
                session=number,
                start_position=said.start,
                sizes=said.sizes,
                quota_bytes=quota,
                sampling=said.chosen(),
                tensor=carried.head,
            )
            made = await line.step(call, carried)
    finally:
        with trio.move_on_after(_END_S, shield=True):
            await line.drop(number)
    if made is None:
        raise Unserved("no batch of that unit")
    return made


def _fed(place: Place, served: Served) -> Feed:
    """What the requester would have signed for these tensors."""
    carried, said = served.tensors
    before = merkle.root_of_leaves(leaves(carried))
    return Feed(place.job, place.unit, place.batch, before, merkle.root([said.data]), served.feed)


def _kept_shard(shard: Shard, shape: KvShape) -> Shard:
    """The io table of what is kept of a batch, in the place of the graph's."""
    carried, made = shape.carried, shape.made
    rest = tuple(made.shape[2:])
    out = TensorSpec(made.name, made.dtype, ("one", "positions", *rest))
    if shape.is_last:
        out = TensorSpec(made.name, Dtype.I64, ("steps",))
    return msgspec.structs.replace(
        shard,
        inputs=(
            TensorSpec(carried.name, carried.dtype, ("one", "positions", *carried.shape[2:])),
            TensorSpec(STEPS, Dtype.U8, ("bytes",)),
        ),
        outputs=(out,),
    )
