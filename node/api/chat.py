"""Handler of model_getPrompt.

Knows: models and their tokenizers' files. Must not know: transports, how an answer is generated.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

import trio

from prsm.node.models import Known, Models
from prsm.node.models.chatforms import (
    PLAIN,
    TEMPLATE,
    Message,
    NoChatForm,
    ToolsUnsupported,
    check_texts,
    form_of,
    render,
    special_tokens,
)
from prsm.node.rpc.dispatch import Handler
from prsm.node.rpc.methods import chat as api
from prsm.node.rpc.spec import Caller
from prsm.protocol.errors import Unsupported
from prsm.protocol.messages.chats import CALL_BEGIN

_KEPT: Final = 64  # models whose special tokens are remembered; the manifest never changes


class ChatApi:
    """Answers about conversations."""

    def __init__(self, models: Models) -> None:
        self._models = models
        self._special: OrderedDict[bytes, frozenset[str]] = OrderedDict()

    def handlers(self) -> dict[str, Handler]:
        """Method name -> handler."""
        return {"model_getPrompt": self.render}

    async def render(self, params: api.PromptParams, _caller: Caller) -> api.PromptText:
        """A conversation as one prompt."""
        known = await self._models.find(params.model)
        index = known.manifest.tokenizer
        if index is None:
            raise Unsupported(
                f"model {known.manifest.name} has no tokenizer",
                hint="add the model with its tokenizer.json",
            )
        special = await self._special_of(known.cid.raw, index)
        if params.form == "own" and (found := await self._by_template(known, params, special)):
            return found
        return self._by_marks(known, params, special)

    async def _by_template(
        self, known: Known, params: api.PromptParams, special: frozenset[str]
    ) -> api.PromptText | None:
        """As the model's own template writes it; None where it has none."""
        messages, tools = _turns(params.messages), [_tool(one) for one in params.tools]
        check_texts({"messages": messages, "tools": tools}, special)
        written = await self._models.templates.write(known, messages, tools)
        if written is None:
            return None
        # A mark that is a special token is not told in the text of an answer.
        calls = "" if CALL_BEGIN in special else written.calls
        if params.tools and not calls:
            raise _no_tools(known, "its template names no way of calling tools that is known")
        return api.PromptText(str(known.cid), TEMPLATE, written.prompt, (), calls)

    def _by_marks(
        self, known: Known, params: api.PromptParams, special: frozenset[str]
    ) -> api.PromptText:
        """By the special tokens of its tokenizer, or plainly; no tools."""
        name = known.manifest.name
        form = PLAIN if params.form == "plain" else form_of(special)
        if form is None:
            raise NoChatForm(f"the tokenizer of {name} has no tokens of a conversation")
        messages: list[Message] = []
        for one in params.messages:
            if one.role == "tool" or one.tool_calls or params.tools:
                raise _no_tools(known, f"the form {form.name} has no words for them")
            messages.append(Message(one.role, one.content))
        prompt = render(form, messages, special)
        return api.PromptText(str(known.cid), form.name, prompt, form.stops)

    async def _special_of(self, cid: bytes, index: int) -> frozenset[str]:
        found = self._special.get(cid)
        if found is None:
            path = await self._models.file(cid, index)
            raw = await trio.to_thread.run_sync(path.read_bytes)
            found = await trio.to_thread.run_sync(special_tokens, raw)
            self._special[cid] = found
        self._special.move_to_end(cid)
        if len(self._special) > _KEPT:
            self._special.popitem(last=False)
        return found


def _turns(messages: Sequence[api.ChatMessage]) -> list[dict[str, object]]:
    """Messages in the words of templates; what a tool gave also names the tool."""
    names = {call.id: call.name for one in messages for call in one.tool_calls}
    return [_turn(one, names.get(one.tool_call_id)) for one in messages]


def _turn(one: api.ChatMessage, tool: str | None) -> dict[str, object]:
    """What a message does not have is not there."""
    turn: dict[str, object] = {"role": one.role, "content": one.content}
    if one.tool_calls:
        turn["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in one.tool_calls
        ]
    if one.tool_call_id:
        turn["tool_call_id"] = one.tool_call_id
    if tool is not None:
        turn["name"] = tool
    return turn


def _tool(tool: api.Tool) -> dict[str, object]:
    function = {
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
    }
    return {"type": "function", "function": function}


def _no_tools(known: Known, why: str) -> ToolsUnsupported:
    return ToolsUnsupported(f"model {known.manifest.name} calls no tools: {why}")
