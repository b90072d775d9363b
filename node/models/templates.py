"""A model's own chat template: which files of it that are, and what it writes.

Knows: names of files, and who runs them. Must not know: what a template is written in.
Source: docs/spec/rpc.md, "Conversations".
"""

import hashlib
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol

from prsm.node.inference.pool import Pool
from prsm.node.inference.prepared import Prepared, PreparedFile
from prsm.node.inference.templates import Document, Talk, Written, write
from prsm.node.models.records import Known, Tools
from prsm.protocol.errors import Unsupported
from prsm.protocol.messages.chats import TEMPLATE_BYTES_MAX, TOKENIZER_CONFIG_BYTES_MAX
from prsm.protocol.messages.models import TEMPLATE_PATH, TOKENIZER_CONFIG_PATH
from prsm.protocol.messages.pipe import InputMismatch, ModelRefused
from prsm.storage.wholefile import refused

_SIZES: Final = {
    TEMPLATE_PATH: TEMPLATE_BYTES_MAX,
    TOKENIZER_CONFIG_PATH: TOKENIZER_CONFIG_BYTES_MAX,
}


class Using(Protocol):
    """A file of a model, held for as long as the block runs."""

    def __call__(self, cid: bytes, index: int, *, holder: str) -> AbstractAsyncContextManager[Path]:
        """As `Models.using`."""
        ...


class Templates:
    """Writes conversations by the templates of their models."""

    def __init__(self, tools: Tools, using: Using) -> None:
        self._tools, self._using = tools, using

    async def write(
        self, known: Known, messages: Sequence[Document], tools: Sequence[Document]
    ) -> Written | None:
        """A conversation as a model's own template writes it; None where it has none.

        Args:
            known: the model.
            messages: objects of `role`, `content` and what else a turn has.
            tools: objects of `type` and `function`.

        Raises:
            Unsupported: the executor of this node is off.
            PrsmError: the file is not to be had, as `Models.file`; else as `templates.write`.
        """
        places = [known.manifest.place(TEMPLATE_PATH), known.manifest.place(TOKENIZER_CONFIG_PATH)]
        if places == [None, None]:
            return None
        pool = self._tools.pool
        if pool is None:
            raise Unsupported(
                f"the template of {known.manifest.name} is a program, and this node runs none",
                hint="set executor.enabled = true in config.toml and start again",
            )
        talk = Talk(messages, tools, self._tools.driver.clock.wall_ms() // 1000)
        async with AsyncExitStack() as stack:
            template, config = [
                None
                if place is None
                else await stack.enter_async_context(
                    self._using(known.cid.raw, place, holder="conversation")
                )
                for place in places
            ]
            return await write(pool, talk, template=template, config=config)


async def check_templates(pool: Pool, paths: Sequence[Path], *, now_ms: int) -> None:
    """Have the templates of a model to be added write a greeting, before minutes of work.

    Raises:
        InputMismatch: files of other names, or the same twice.
        ModelRefused: no template in them, or one that fails.
    """
    if not paths:
        return
    named = {path.name: path for path in paths}
    if len(named) != len(paths) or not named.keys() <= _SIZES.keys():
        raise InputMismatch(
            f"templates are {', '.join(path.name for path in paths)}",
            hint=f"give one {TEMPLATE_PATH}, one {TOKENIZER_CONFIG_PATH}, or both",
        )
    talk = Talk([{"role": "user", "content": "Hello"}], (), now_ms // 1000)
    template, config = named.get(TEMPLATE_PATH), named.get(TOKENIZER_CONFIG_PATH)
    if await write(pool, talk, template=template, config=config) is None:
        raise ModelRefused(f"{TOKENIZER_CONFIG_PATH} holds no chat template")


def with_templates(prepared: Prepared, paths: Sequence[Path]) -> Prepared:
    """The files of a model with its templates beside them; called in a thread.

    Raises:
        ModelRefused: a file is too large.
        NotFound, Full, StoreUnavailable: it is gone, or the disk refused.
    """
    files = list(prepared.files)
    for path in paths:
        with refused(path), path.open("rb") as file:
            raw = file.read(_SIZES[path.name] + 1)
        if len(raw) > _SIZES[path.name]:
            raise ModelRefused(f"{path.name} of over {_SIZES[path.name]} bytes")
        with refused(prepared.out_dir / path.name):
            (prepared.out_dir / path.name).write_bytes(raw)
        files.append(PreparedFile(path.name, hashlib.sha256(raw).digest(), len(raw)))
    return replace(prepared, files=tuple(files))
