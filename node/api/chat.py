"""Handler of model_getPrompt.

Knows: models and their tokenizers' files. Must not know: transports, how an answer is generated.
"""

from collections import OrderedDict
from typing import Final

import trio

from prsm.node.models import Models
from prsm.node.models.chatforms import (
    PLAIN,
    Message,
    NoChatForm,
    form_of,
    render,
    special_tokens,
)
from prsm.node.rpc.dispatch import Handler
from prsm.node.rpc.methods import chat as api
from prsm.node.rpc.spec import Caller
from prsm.protocol.errors import Unsupported

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
        name, index = known.manifest.name, known.manifest.tokenizer
        if index is None:
            raise Unsupported(
                f"model {name} has no tokenizer", hint="add the model with its tokenizer.json"
            )
        special = await self._special_of(known.cid.raw, index)
        form = PLAIN if params.form == "plain" else form_of(special)
        if form is None:
            raise NoChatForm(f"the tokenizer of {name} has no tokens of a conversation")
        messages = [Message(one.role, one.content) for one in params.messages]
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
