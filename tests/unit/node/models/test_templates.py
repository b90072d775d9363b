"""Templates as files of a model: which names they have, and who is asked to write with them."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
import trio

from prsm.node.inference.prepared import Prepared
from prsm.node.inference.templates import Talk, Written
from prsm.node.models import Known
from prsm.node.models import templates as room
from prsm.node.models.templates import Templates, check_templates, with_templates
from prsm.protocol.errors import Unsupported
from prsm.protocol.messages.models import ManifestFile
from prsm.protocol.messages.pipe import InputMismatch, ModelRefused
from prsm.storage.cid import Codec, hash_block
from prsm.storage.errors import Full, NotFound
from tests.tools.stores import manifest

Asked = list[tuple[Talk, Path | None, Path | None]]
POOL = SimpleNamespace()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """What the child that writes is asked; it answers by the name of its first file."""
    seen: Asked = []

    async def write(
        _pool: object, talk: Talk, *, template: Path | None, config: Path | None
    ) -> Written | None:
        await trio.lowlevel.checkpoint()
        seen.append((talk, template, config))
        return None if template is None else Written(template.name, "")

    monkeypatch.setattr(room, "write", write)
    return seen


@pytest.mark.parametrize(
    "names", [["a.jinja"], ["chat_template.jinja", "x.json"], ["a/chat_template.jinja"] * 2]
)
async def test_files_of_other_names_are_refused(asked: Asked, names: list[str]) -> None:
    with pytest.raises(InputMismatch, match="templates are"):
        await check_templates(POOL, [Path(name) for name in names], now_ms=0)  # type: ignore[arg-type]  # not used
    assert asked == []


async def test_template_writes_a_greeting_before_its_model_is_prepared(asked: Asked) -> None:
    own, config = Path("/a/chat_template.jinja"), Path("/b/tokenizer_config.json")
    await check_templates(POOL, [config, own], now_ms=5_000)  # type: ignore[arg-type]  # as above
    [(talk, template, settings)] = asked
    assert (talk.now_s, template, settings) == (5, own, config)
    with pytest.raises(ModelRefused, match="no chat template"):
        await check_templates(POOL, [config], now_ms=0)  # type: ignore[arg-type]  # as above
    await check_templates(POOL, [], now_ms=0)  # type: ignore[arg-type]  # as above
    assert len(asked) == 2


def test_templates_become_files_of_the_model(tmp_path: Path) -> None:
    source, out = tmp_path / "tokenizer_config.json", tmp_path / "out"
    out.mkdir()
    source.write_bytes(b"{}")
    prepared = Prepared(out, (), (), None, "", "", b"", b"", 1)
    [file] = with_templates(prepared, [source]).files
    assert (file.path, file.size) == ("tokenizer_config.json", 2)
    assert file.sha256 == hashlib.sha256(b"{}").digest()
    assert (out / file.path).read_bytes() == b"{}"
    (out / file.path).unlink()
    (out / file.path).symlink_to("/dev/full")
    with pytest.raises(Full, match="No space left on device"):
        with_templates(prepared, [source])
    source.write_bytes(bytes(5 * 2**20))
    with pytest.raises(ModelRefused, match="over"):
        with_templates(prepared, [source])
    with pytest.raises(NotFound, match="does not exist"):
        with_templates(prepared, [tmp_path / "gone" / file.path])


def known_with(*paths: str) -> Known:
    root = hash_block(b"file", Codec.RAW).raw
    files = tuple(ManifestFile(path, root, 1, bytes(32)) for path in ("model.onnx", *paths))
    made = msgspec.structs.replace(manifest(name="a"), files=files)
    return Known(hash_block(b"model", Codec.RAW), made, is_held=True, is_registered=False)


async def test_files_are_held_while_the_template_writes(asked: Asked) -> None:
    used: list[int] = []

    @asynccontextmanager
    async def using(_cid: bytes, index: int, *, holder: str) -> AsyncIterator[Path]:
        assert holder
        used.append(index)
        yield Path("/store/chat_template.jinja")

    clock = SimpleNamespace(wall_ms=lambda: 7_000)
    tools = SimpleNamespace(pool=POOL, driver=SimpleNamespace(clock=clock))
    templates = Templates(tools, using)  # type: ignore[arg-type]  # pool and clock are all it uses
    assert await templates.write(known_with(), [], []) is None
    assert used == []
    found = await templates.write(
        known_with("tokenizer_config.json", "chat_template.jinja"), [{"role": "user"}], []
    )
    assert found == Written("chat_template.jinja", "")
    assert used == [2, 1]
    assert asked[0][0] == Talk([{"role": "user"}], [], 7)
    tools.pool = None
    with pytest.raises(Unsupported, match="runs none"):
        await templates.write(known_with("chat_template.jinja"), [], [])
