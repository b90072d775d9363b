"""Chat templates in real sealed children: what one writes, and what stops one that does harm."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from prsm.node.inference import templates
from prsm.node.inference.pool import Pool
from prsm.node.inference.templates import Talk, Written, write
from prsm.protocol.errors import LocalError
from prsm.protocol.messages.pipe import DeadlinePassed, InputMismatch, ModelRefused, OutOfMemory

pytestmark = pytest.mark.slow

HI = Talk([{"role": "user", "content": "Hé"}], (), 1_700_000_000)
TURNS = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Pool]:
    pool = Pool(jobs_dir=folder / "jobs", memory_bytes_max=2**30)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            await nursery.start(pool.run)
            yield pool
            nursery.cancel_scope.cancel()


async def written(pool: Pool, folder: Path, text: str, talk: Talk = HI) -> Written | None:
    path = folder / "chat_template.jinja"
    path.write_text(text, encoding="utf-8")
    return await write(pool, talk, template=path, config=None)


async def test_template_writes_and_every_harm_ends_in_a_typed_error_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All in one pool: its program takes longest to start."""
    async with running(tmp_path) as pool:
        assert await written(pool, tmp_path, TURNS) == Written("<user>Hé", "")

        late = "{{ {'a': 1} | pprint }}{{ '<b>x</b> &lt;' | striptags }}{{ 'a b' | wordwrap(1) }}"
        assert await written(pool, tmp_path, late) == Written("{'a': 1}x <a\nb", "")

        config = tmp_path / "tokenizer_config.json"
        text = TURNS + "{{ eos_token }}{{ tools | tojson }}<tool_call>'name'"
        config.write_text(json.dumps({"chat_template": text, "eos_token": "</s>"}))
        talk = Talk(HI.messages, [{"type": "function"}], HI.now_s)
        found = await write(pool, talk, template=None, config=config)
        assert found == Written('<user>Hé</s>[{"type": "function"}]<tool_call>\'name\'', "hermes")
        config.write_text("{}")
        assert await write(pool, HI, template=None, config=config) is None

        harms: dict[str, type[LocalError]] = {
            "{{ 1 / 0 }}": ModelRefused,  # what fails loads more of Jinja, behind the seal
            "{{ raise_exception('no') }}": InputMismatch,
            "{{ ''.__class__.__mro__[1].__subclasses__() }}": ModelRefused,
            "{{ 'a' * 10 ** 9 }}": OutOfMemory,
            "{{ 'a' * 2000000 }}": ModelRefused,
            "{{ '' }}": ModelRefused,
            "{{ '\\ud800' }}": ModelRefused,
        }
        for harm, seen in harms.items():
            with pytest.raises(seen):
                await written(pool, tmp_path, harm)

        monkeypatch.setattr(templates, "WALL_SECONDS", 0.3)
        with pytest.raises(DeadlinePassed):
            await written(pool, tmp_path, ENDLESS)
        monkeypatch.undo()
        assert await written(pool, tmp_path, TURNS) == Written("<user>Hé", "")
