"""The routes of `/v1`, with the same gate, scopes and layers as every call.

A client that hangs up ends the work that was done for it. Knows: HTTP on one side, the methods
called on the other. Must not know: how a method works.
Source: docs/spec/rpc.md, "The OpenAI API".
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

import msgspec
import trio
from starlette.datastructures import Headers
from starlette.routing import BaseRoute, Route
from starlette.types import Message, Receive, Scope, Send

from prsm.node.rpc.dispatch import Dispatcher
from prsm.node.rpc.errors import (
    BadParams,
    CallError,
    InternalFault,
    only_leaf,
)
from prsm.node.rpc.methods.chat import PromptParams, PromptText
from prsm.node.rpc.methods.models import ModelDetail, Models, RefParams
from prsm.node.rpc.methods.serving import ServedRows, ServeParams
from prsm.node.rpc.methods.work import JobProofParams
from prsm.node.rpc.pages import PageParams
from prsm.node.rpc.spec import Caller
from prsm.node.telemetry import logs
from prsm.node.web.answers import answer, answer_refusal, begin_events, trace_of
from prsm.node.web.app import Pages
from prsm.node.web.auth import Gate
from prsm.node.web.bodies import BODY_DEADLINE_S, ClientGone, read_body
from prsm.node.web.forms import refuse_form, refuse_verb
from prsm.node.web.openai.answers import Document, Kind, Told, embeddings, model_document
from prsm.node.web.openai.choices import started, tell
from prsm.node.web.openai.faults import fault_body, headers_of, status_of
from prsm.node.web.openai.forms import (
    CHOICES_MAX,
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    read_request,
)
from prsm.node.web.openai.texts import Prompt, Telling, generate_params
from prsm.node.web.openai.tools import messages_of, tools_of
from prsm.protocol.errors import PrsmError

_ALIVE: Final = b": at work\n\n"
_DONE: Final = b"data: [DONE]\n\n"

log: Final = logs.get("web")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class World:
    """What answers tell beside what methods say.

    Attributes:
        now_ms: wall time.
        height: of the ledger.
    """

    now_ms: Callable[[], int]
    height: Callable[[], int]


@dataclass(frozen=True, slots=True)
class _Visit:
    """One admitted request."""

    scope: Scope
    send: Send
    caller: Caller
    body: bytes
    is_live: Callable[[], bool]  # does what it came with still count?


_Answer = Callable[[_Visit], Awaitable[None]]


def openai_pages(dispatcher: Dispatcher, world: World) -> Pages:
    """The routes, for `prsm.node.web.serve.serve`."""

    def pages(gate: Gate) -> Sequence[BaseRoute]:
        api = _Api(dispatcher, world)
        pages: Mapping[str, tuple[str, _Answer]] = {
            "/v1/models": ("GET", api.models),
            "/v1/models/{ref:path}": ("GET", api.model),
            "/v1/proofs/{job_id}": ("GET", api.proof),
            "/v1/embeddings": ("POST", api.embed),
            "/v1/completions": ("POST", api.complete),
            "/v1/chat/completions": ("POST", api.chat),
        }
        return [
            Route(path, endpoint=_Page(gate, verb, give)) for path, (verb, give) in pages.items()
        ]

    return pages


class _Page:
    """One path: who asks, what, and every failure in the form of the API."""

    def __init__(self, gate: Gate, verb: str, give: _Answer) -> None:
        self._gate, self._verb, self._give = gate, verb, give

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        try:
            self._refuse_form(scope, headers)
            peer = scope["state"].get("peer")
            caller = await self._gate.admit(headers, peer, trace_id=trace_of(scope))
            body = await read_body(headers, receive, deadline_s=BODY_DEADLINE_S)
        except CallError as error:
            await answer_refusal(
                *(scope, receive, send, error),
                status=status_of(error),
                body=fault_body(error, trace_id=trace_of(scope)),
            )
            return
        is_begun = False

        async def watched(message: Message) -> None:
            nonlocal is_begun
            is_begun = True
            await send(message)

        try:
            visit = _Visit(scope, watched, caller, body, partial(self._gate.is_live, caller))
            await _unless_gone(receive, partial(self._give, visit))
        except ClientGone:
            raise
        except Exception as error:
            if is_begun:
                raise
            await _refuse(scope, send, only_leaf(error))

    def _refuse_form(self, scope: Scope, headers: Headers) -> None:
        refuse_verb(scope, allow=self._verb)
        if self._verb == "POST":
            refuse_form(scope, headers)


class _Api:
    """What each page answers."""

    def __init__(self, dispatcher: Dispatcher, world: World) -> None:
        self._dispatcher, self._world = dispatcher, world

    async def models(self, visit: _Visit) -> None:
        """GET /v1/models: those that can be run."""
        data: list[Document] = []
        cursor: str | None = ""
        while cursor is not None:
            asked = PageParams(cursor=cursor)
            found = await self._dispatcher.call("model_list", asked, visit.caller)
            assert isinstance(found, Models)
            data += [model_document(info) for info in found.items if info.stages]
            cursor = found.next_cursor
        await _say(visit, {"object": "list", "data": data})

    async def model(self, visit: _Visit) -> None:
        """GET /v1/models/{ref}."""
        params = _checked(RefParams, ref=visit.scope["path_params"]["ref"])
        found = await self._dispatcher.call("model_get", params, visit.caller)
        assert isinstance(found, ModelDetail)
        await _say(visit, model_document(found.model))

    async def proof(self, visit: _Visit) -> None:
        """GET /v1/proofs/{job_id}: the receipt document, for anyone to check."""
        params = _checked(JobProofParams, job_id=visit.scope["path_params"]["job_id"])
        found = await self._dispatcher.call("job_getProof", params, visit.caller)
        assert isinstance(found, dict)
        await _say(visit, found)

    async def embed(self, visit: _Visit) -> None:
        """POST /v1/embeddings."""
        wish = read_request(visit.body, EmbeddingRequest)
        try:
            served = await self._serve(visit, wish, wish.prsm.opinions or 1)
        except PrsmError as error:
            # Before anything is spent: nobody's word alone is good enough.
            if error.reason != "no_bond" or error.spent or wish.prsm.opinions is not None:
                raise
            served = await self._serve(visit, wish, 2)
        is_base64 = wish.encoding_format == "base64"
        height = self._world.height()
        await _say(visit, embeddings(served, wish.model, height, is_base64=is_base64))

    async def _serve(self, visit: _Visit, wish: EmbeddingRequest, opinions: int) -> ServedRows:
        params = ServeParams(
            model=wish.model,
            texts=wish.texts,
            opinions=opinions,
            max_price=wish.prsm.max_price,
            fresh=wish.prsm.fresh,
        )
        served = await self._dispatcher.call("serve_run", params, visit.caller)
        assert isinstance(served, ServedRows)
        return served

    async def complete(self, visit: _Visit) -> None:
        """POST /v1/completions."""
        wish = read_request(visit.body, CompletionRequest)
        prompts = [
            Prompt(wish.model, text, wish.stops, lead=text if wish.echo else "")
            for text in wish.texts
        ]
        await self._tell(visit, wish, "text", prompts)

    async def chat(self, visit: _Visit) -> None:
        """POST /v1/chat/completions: the messages as the prompt the model was trained on."""
        wish = read_request(visit.body, ChatRequest)
        tools = tools_of(wish)
        asked = PromptParams(wish.model, messages_of(wish), wish.prsm.form, tools)
        found = await self._dispatcher.call("model_getPrompt", asked, visit.caller)
        assert isinstance(found, PromptText)
        # By its CID from here on: a name may mean another version meanwhile.
        stops = (*wish.stops, *found.stops)
        has_tools = bool(tools and found.calls)
        prompt = Prompt(found.model, found.prompt, stops, found.form, has_tools=has_tools)
        tokens_max = wish.max_completion_tokens or wish.max_tokens
        wish = msgspec.structs.replace(wish, max_tokens=tokens_max)
        await self._tell(visit, wish, "chat", [prompt])

    async def _tell(
        self,
        visit: _Visit,
        wish: CompletionRequest | ChatRequest,
        kind: Kind,
        prompts: Sequence[Prompt],
    ) -> None:
        tellings = self._tellings(visit, wish, prompts)
        told = Told(kind, wish.model, self._world.now_ms() // 1000, tellings)
        async with started(tellings):
            if wish.stream:
                stream = _Stream(visit, told, self._world.height)
                await stream.run(with_usage=wish.stream_options.include_usage)
                return
            parts: list[list[str]] = [[] for _ in tellings]

            async def keep(telling: Telling, text: str) -> None:
                parts[telling.index].append(text)
                await trio.lowlevel.checkpoint()

            await tell(tellings, visit.is_live, keep)
            texts = ["".join(part) for part in parts]
            await _say(visit, told.whole(texts, self._world.height()))

    def _tellings(
        self, visit: _Visit, wish: CompletionRequest | ChatRequest, prompts: Sequence[Prompt]
    ) -> list[Telling]:
        """An answer for each prompt, or `n`.

        Raises:
            BadParams: more than one request may ask for.
        """
        count = wish.n * len(prompts)
        if count > CHOICES_MAX:
            raise BadParams(
                f"{count} answers ({len(prompts)} prompts, n = {wish.n}), at most {CHOICES_MAX}",
                field="n",
            )
        asked = [
            (prompt, params)
            for prompt in prompts
            for params in generate_params(wish, prompt, wish.max_tokens, shares=count)
        ]
        return [
            Telling(self._dispatcher, visit.caller, prompt, params, index=index)
            for index, (prompt, params) in enumerate(asked)
        ]


class _Stream:
    """Answers as server-sent events; what fails before the first text is a plain refusal."""

    def __init__(self, visit: _Visit, told: Told, height: Callable[[], int]) -> None:
        self._visit, self._told, self._height = visit, told, height
        self._begun: set[int] = set()  # indices of answers that have a part
        self._left = len(told.tellings)  # answers whose end is not told
        self._calls = [0] * self._left  # calls of tools that are told, by answer

    async def run(self, *, with_usage: bool) -> None:
        """Tell all answers, part by part."""
        visit, told = self._visit, self._told
        try:
            await tell(told.tellings, visit.is_live, self._say)
        except PrsmError as error:
            if not self._begun:
                raise
            body = fault_body(error, trace_id=trace_of(visit.scope))
            await _part(visit, b"data: " + body + b"\n\n", is_last=True)
            return
        if with_usage:
            await _event(visit, told.usage(self._height()))
        await _part(visit, _DONE, is_last=True)

    async def _say(self, telling: Telling, text: str) -> None:
        visit, told = self._visit, self._told
        is_first = telling.index not in self._begun
        if not self._begun:
            await begin_events(visit.scope, visit.send)
        self._begun.add(telling.index)
        if text or is_first:
            await _event(visit, told.chunk(telling, text, is_first=is_first))
        elif not telling.is_over:
            await _part(visit, _ALIVE)
        told_calls = self._calls[telling.index]
        if len(telling.calls) > told_calls:
            self._calls[telling.index] = len(telling.calls)
            await _event(visit, told.calls(telling, told_calls))
        if not telling.is_over:
            return
        self._left -= 1
        if self._left:
            await _event(visit, told.chunk(telling, None))
        else:
            await _event(visit, told.last(telling, self._height()))


async def _unless_gone(receive: Receive, work: Callable[[], Awaitable[None]]) -> None:
    """Do the work; a client that hangs up cancels it.

    Raises:
        ClientGone: it hung up.
    """
    failure: PrsmError | None = None
    is_done = False
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_cancel_with, receive, nursery.cancel_scope)
        try:
            await work()
            is_done = True
        except PrsmError as error:  # out of the nursery it would be a group
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    if not is_done:
        raise ClientGone


async def _cancel_with(receive: Receive, scope: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


async def _refuse(scope: Scope, send: Send, error: Exception) -> None:
    if not isinstance(error, PrsmError):
        log.error("request failed", path=scope["path"], trace=trace_of(scope), exc_info=error)
        error = InternalFault("the node failed at this request")
    body = fault_body(error, trace_id=trace_of(scope))
    await answer(scope, send, body, status=status_of(error), headers=headers_of(error))


def _checked(shape: type[T], **values: str) -> T:
    """Parameters made of a path.

    Raises:
        BadParams: out of bounds.
    """
    try:
        return msgspec.convert(values, type=shape)
    except msgspec.ValidationError as error:
        raise BadParams(str(error)) from error


async def _say(visit: _Visit, document: Document) -> None:
    await answer(visit.scope, visit.send, msgspec.json.encode(document))


async def _event(visit: _Visit, document: Document) -> None:
    await _part(visit, b"data: " + msgspec.json.encode(document) + b"\n\n")


async def _part(visit: _Visit, body: bytes, *, is_last: bool = False) -> None:
    await visit.send({"type": "http.response.body", "body": body, "more_body": not is_last})
