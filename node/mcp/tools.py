"""The tools: what a client of the Model Context Protocol may ask of this node, and do with it.

Each tool's first line and arguments are what the client's model reads. A tool that spends takes
the most it may cost from the budget first. Knows: the methods it calls. Must not know: stdio.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import anyio
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError

from prsm.node.mcp import receipts, shapes
from prsm.node.mcp.budget import Budget, BudgetSpent
from prsm.node.mcp.calls import Away, Document, Node, Refused, in_thread, told
from prsm.node.mcp.shapes import Raw

_WAIT_MS: Final = 20_000
_READ_MS: Final = 2_000
_JOB_MS: Final = 600_000
_CLEAN_S: Final = 5.0
_DIGITS_MAX: Final = 20  # of an amount: what is longer is more than there is
_TEMPERATURE_MAX: Final = 100.0  # as infer_generate takes it; infinity is no number of thousandths
_TOLD: Final = (
    *("finish", "tokens", "prompt_tokens", "locked", "jobs", "stages", "first_token_ms"),
)
Redundancy = Literal["1-of-1", "2-of-2", "2-of-3", "3-of-4", "3-of-5"]


@dataclass
class Spend:
    """One call that may cost something.

    Attributes:
        cap: most it may lock; None: the node decides.
        used: what counts as spent when it is over; all of the cap until it is known.
    """

    cap: int | None
    used: int

    @property
    def params(self) -> Document:
        """The cap as a parameter."""
        return {} if self.cap is None else {"max_price": str(self.cap)}


@dataclass
class Tools:
    """The tools of one server.

    Attributes:
        node: who is asked.
        genesis: of the node's network, which receipts are checked against.
        budget: micro-FTNS; None until the first tool that spends asks the node.
    """

    node: Node
    genesis: Path
    budget: Budget | None = None

    # -- reading

    async def node_status(self) -> dict[str, Any]:
        """How the node is: state, peers, height, wallet, running jobs."""
        return shapes.status(await self.node.ask("node_getStatus"))

    async def search_models(
        self, query: str, task: str | None = None, limit: int = 5
    ) -> dict[str, Any]:
        """Find models and datasets of the network by what they are for, the nearest first.

        Args:
            query: what is looked for, in words.
            task: only of this task, such as sentence-similarity.
            limit: how many, at most 50.
        """
        params = {"query": query, "task": task, "limit": max(1, min(limit, 50))}
        return await self.node.ask("model_search", params)

    async def list_models(self) -> dict[str, Any]:
        """All models this node holds or knows by name."""
        return shapes.models(await self.node.ask("model_list"))

    async def show_model(self, model: str) -> dict[str, Any]:
        """A model's manifest: inputs, outputs, files, licence, how it is cut into stages.

        Args:
            model: name, name@version or CID.
        """
        return await self.node.ask("model_get", {"ref": model})

    async def quote(self, model: str, rows: int = 1, stages: int = 1) -> dict[str, Any]:
        """Prices workers bind themselves to for two minutes; nothing is spent. In micro-FTNS.

        Args:
            model: name, name@version or CID.
            rows: rows of the job; a text is one row.
            stages: parts on several workers.
        """
        params = {"model": model, "rows": rows, "stages": stages}
        return await self.node.ask("infer_quote", params)

    async def list_jobs(self, limit: int = 20) -> dict[str, Any]:
        """Jobs of this node, the newest first.

        Args:
            limit: how many, at most 200.
        """
        found: Raw = await self.node.ask("job_list")
        return {"items": [shapes.job(one) for one in found["items"][: max(1, min(limit, 200))]]}

    async def show_job(self, job_id: str) -> dict[str, Any]:
        """A job: who did what, what was found of it, what was paid.

        Args:
            job_id: 0x and 64 hex digits.
        """
        return shapes.job(await self.node.ask("job_get", {"job_id": job_id}))

    async def get_receipt(self, job_id: str) -> dict[str, Any]:
        """The receipt document of a settled job: signed work, blocks and certificates.

        Args:
            job_id: 0x and 64 hex digits.
        """
        return await self.node.ask("job_getProof", {"job_id": job_id})

    async def verify_receipt(
        self, job_id: str = "", receipt: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Check a receipt against the network's genesis by a program that trusts nobody.

        Args:
            job_id: of a settled job of this node; or
            receipt: the document itself.
        """
        if bool(job_id) == (receipt is not None):
            raise ToolError("give either job_id or receipt")
        document = receipt if receipt is not None else await self.get_receipt(job_id)
        return await in_thread(lambda: receipts.verify(document, self.genesis))

    async def spending(self) -> dict[str, Any]:
        """What the tools of this server may still lock, in micro-FTNS.

        Fees come beside a budget; a token's own limit counts them.
        """
        budget = await self._open_budget()
        if budget.limit is None:  # the token's own limit, which the node keeps
            return await self.node.ask("spending_get")
        said = {"limit": budget.limit, "taken": budget.taken, "left": budget.left}
        return {name: str(value) for name, value in said.items()}

    # -- work that may cost something

    async def run_model(
        self,
        model: str,
        texts: list[str],
        max_price: str | None = None,
        redundancy: Redundancy | None = None,
    ) -> dict[str, Any]:
        """Run a model over texts on workers of the network, checked; returns its outputs.

        Args:
            model: name, name@version or CID.
            texts: one row each.
            max_price: most micro-FTNS it may lock; else all that is left of the budget.
            redundancy: how many workers must agree; else two of three.
        """
        params: Document = {"model": model, "texts": texts, "deadline_ms": _JOB_MS}
        if redundancy is not None:
            params["redundancy"] = redundancy
        async with self._spend(max_price) as spend:
            job = await self._run({**params, **spend.params}, spend)
            spend.used = int(job["locked"])
        if job["error"] is not None:
            raise ToolError(f"the job failed: {job['error']['what']} [{job['error']['reason']}]")
        result = await self.node.ask("job_getResult", {"job_id": job["job_id"]})
        return {**shapes.job(job), "outputs": shapes.outputs(result)}

    async def generate_text(  # noqa: PLR0913 - arguments of a tool, given by name
        self,
        *,
        model: str,
        prompt: str,
        ctx: Context,
        is_chat: bool = False,
        max_tokens: int = 128,
        temperature: float = 0.0,
        seed: int = 0,
        max_price: str | None = None,
    ) -> dict[str, Any]:
        """Let a language model go on from a prompt, on workers of the network.

        Args:
            model: name, name@version or CID.
            prompt: text to go on from, or a question if is_chat.
            ctx: of the request.
            is_chat: write the prompt as a turn of a conversation, in the model's own form.
            max_tokens: tokens to choose at most.
            temperature: 0 takes the most likely token.
            seed: of the draws.
            max_price: most micro-FTNS it may lock; else all that is left of the budget.
        """
        if not 0 <= temperature <= _TEMPERATURE_MAX:
            raise ToolError(
                f"temperature is {temperature}, at least 0 and at most {_TEMPERATURE_MAX:g}"
            )
        if is_chat:
            turn = {"role": "user", "content": prompt}
            form: Raw = await self.node.ask("model_getPrompt", {"model": model, "messages": [turn]})
            model, prompt = form["model"], form["prompt"]
        params: Document = {
            "model": model,
            "prompt": prompt,
            "max_tokens": max_tokens,
            "temperature": round(temperature * 1000),
            "seed": seed,
        }
        async with self._spend(max_price) as spend:
            text, info = await self._generate({**params, **spend.params}, spend, ctx, max_tokens)
            spend.used = int(info["locked"])
        return {"text": text, **{name: info[name] for name in _TOLD}}

    async def _run(self, params: Document, spend: Spend) -> Raw:
        """A job from its start to its end; cancelled, it is cancelled too."""
        job: Raw = await self._begin("infer_run", params, spend)
        try:
            while not job["is_over"]:
                asked = {"job_id": job["job_id"], "wait_ms": _WAIT_MS}
                job = await self.node.ask("job_get", asked)
        except anyio.get_cancelled_exc_class():
            with anyio.move_on_after(_CLEAN_S, shield=True):
                await self._let_go("job_cancel", {"job_id": job["job_id"]})
            raise
        return job

    async def _generate(
        self, params: Document, spend: Spend, ctx: Context, most: int
    ) -> tuple[str, Raw]:
        """All of a text, told as it comes; cancelled, its stages stop."""
        info: Raw = await self._begin("infer_generate", params, spend)
        name, parts = {"generation_id": info["generation_id"]}, list[str]()
        try:
            while not info["is_over"]:
                info = await self.node.ask("infer_readTokens", {**name, "wait_ms": _READ_MS})
                parts.append(info["text"])
                await ctx.report_progress(info["tokens"], most, info["text"] or None)
        except anyio.get_cancelled_exc_class():
            with anyio.move_on_after(_CLEAN_S, shield=True):
                await self._let_go("infer_endGeneration", name)
            raise
        return "".join(parts), info

    async def _begin(self, method: str, params: Document, spend: Spend) -> Raw:
        """Start what may lock; refused clearly, it costs nothing."""
        try:
            return await self.node.ask(method, params)
        except Refused as error:
            spend.used = 0 if error.is_clear else spend.used
            raise
        except Away:
            spend.used = 0
            raise

    async def _let_go(self, method: str, params: Document) -> None:
        """End what a cancelled tool began."""
        with suppress(ToolError):  # it ended by itself, or the node went away
            await self.node.ask(method, params)

    # -- money

    @asynccontextmanager
    async def _spend(self, max_price: str | None) -> AsyncIterator[Spend]:
        """Reserve what a call may cost; what it did not lock comes back."""
        budget = await self._open_budget()
        if max_price is not None and not _is_amount(max_price):
            raise ToolError(f"max_price is {max_price[:40]!r}, not whole micro-FTNS such as 1500")
        try:
            cap = budget.take(None if max_price is None else int(max_price))
        except BudgetSpent as error:
            raise told(error) from error
        spend = Spend(cap, used=cap or 0)
        try:
            yield spend
        finally:
            budget.give_back(cap, spend.used)

    async def _open_budget(self) -> Budget:
        """The budget; without one on the command line, the token's own limit, else nothing."""
        if self.budget is None:
            try:
                limits: Raw = await self.node.ask("spending_get")
            except Refused:
                return Budget(0)  # asked again by the next call: a node that starts refuses, too
            # A token with a limit is held to it by the node; any other caller spends nothing here.
            self.budget = Budget(0 if limits.get("left") is None else None)
        return self.budget


def _is_amount(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= _DIGITS_MAX
