"""model_getPrompt: by the tokenizer that lies here, or refused by name."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from prsm.node.api.chat import ChatApi
from prsm.node.models.chatforms import NoChatForm
from prsm.node.rpc.methods.chat import ChatMessage, PromptParams
from prsm.protocol.errors import Unsupported
from prsm.storage.cid import Cid, Codec, hash_block
from tests.tools.rpc_node import ANYBODY

CID = hash_block(b"model", Codec.RAW)
ASKED = PromptParams("m", (ChatMessage("user", "Hi"),))


@dataclass
class OneModel:
    """A fake of the room of models: one model, its tokenizer a file."""

    path: Path
    tokenizer: int | None = 0
    cid: Cid = CID
    read: list[int] = field(default_factory=list)

    async def find(self, _ref: str) -> SimpleNamespace:
        manifest = SimpleNamespace(name="m", tokenizer=self.tokenizer)
        return SimpleNamespace(cid=self.cid, manifest=manifest)

    async def file(self, _cid: bytes, index: int) -> Path:
        self.read.append(index)
        return self.path


def room(folder: Path, *special: str) -> OneModel:
    path = folder / "tokenizer.json"
    added = [{"content": one, "special": True} for one in special]
    path.write_text(json.dumps({"added_tokens": added}))
    return OneModel(path)


async def test_conversation_is_written_and_the_tokenizer_read_once(tmp_path: Path) -> None:
    models = room(tmp_path, "<|im_start|>", "<|im_end|>")
    api = ChatApi(models)  # type: ignore[arg-type]  # find and file are all it uses
    await api.render(ASKED, ANYBODY)
    told = await api.render(ASKED, ANYBODY)
    assert told.prompt == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert (told.form, told.model, models.read) == ("chatml", str(CID), [0])


async def test_model_without_form_is_refused_and_plain_form_has_stops(tmp_path: Path) -> None:
    api = ChatApi(room(tmp_path, "<eos>"))  # type: ignore[arg-type]  # as above
    with pytest.raises(NoChatForm):
        await api.render(ASKED, ANYBODY)
    told = await api.render(PromptParams("m", ASKED.messages, "plain"), ANYBODY)
    assert (told.prompt, told.stops) == ("user: Hi\nassistant:", ("\nuser:", "\nsystem:"))


async def test_model_without_tokenizer_is_refused(tmp_path: Path) -> None:
    models = room(tmp_path)
    models.tokenizer = None
    with pytest.raises(Unsupported):
        await ChatApi(models).render(ASKED, ANYBODY)  # type: ignore[arg-type]  # as above
