"""The models of a node: names to CIDs, what is refused before the work, fetching and serving."""

import shutil
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from prsm.node.chain.wallet import WalletLocked
from prsm.node.inference.interface import TransactionFailed
from prsm.node.models import Models, UnknownModel
from prsm.node.models.naming import register_model
from prsm.node.models.records import Known
from prsm.protocol.errors import LocalError, Unsupported
from prsm.protocol.messages.pipe import ModelRefused
from prsm.protocol.transactions.payloads import REGISTER_MODEL, RegisterModel
from prsm.protocol.transactions.results import Code
from prsm.storage.cid import Cid, Codec, decode_cid, hash_block
from prsm.storage.errors import BadCid, Conflict, Full, NotFound
from prsm.storage.manifest import encode_manifest
from prsm.storage.store.blockstore import BlockIndex
from prsm.storage.store.intake import OnRoot, Progress
from prsm.storage.store.model_store import ModelStore, StoredFile
from prsm.storage.store.pins import ADDED
from prsm.storage.store.sealed import AddedFile
from prsm.storage.store.staging import Stage
from tests.tools.model_rooms import TX, Room, open_room, registered, wanted
from tests.tools.stores import manifest
from tests.tools.wires import Wire


def cid_of(name: str) -> Cid:
    return hash_block(encode_manifest(manifest(name=name)), Codec.DAG_PB)


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    async with open_room(tmp_path) as made:
        yield made


async def test_name_means_its_newest_version(room: Room) -> None:
    """1.10.0 is newer than 1.9.0; a version in the reference is exact."""
    room.ledger.named = [registered("a", v, i) for i, v in enumerate(("1.9.0", "1.10.0", "1.2.0"))]
    newest, exact = room.models.resolve("a"), room.models.resolve("a@1.2.0")
    assert newest.raw == room.ledger.named[1].manifest
    assert exact.raw == room.ledger.named[2].manifest
    with pytest.raises(UnknownModel):
        room.models.resolve("a@3.0.0")


async def test_ledger_goes_before_what_only_this_node_calls_so(room: Room) -> None:
    """A local model of a registered name is not what everybody means by it."""
    local = await room.tools.store.save_manifest(manifest(name="a"))
    room.models._held[local] = manifest(name="a")
    assert room.models.resolve("a") == local
    assert room.models.resolve("a@1.0.0") == local
    room.ledger.named = [registered("a", "1.0.0", 1)]
    assert room.models.resolve("a").raw == room.ledger.named[0].manifest


@pytest.mark.parametrize("ref", ["nothing", "nothing@1.0.0", "@", "a@b@c", "bafy", "Qm"])
async def test_unknown_reference_says_what_to_type(room: Room, ref: str) -> None:
    """Names nobody registered, and what is too short for a CID."""
    with pytest.raises(UnknownModel) as refused:
        room.models.resolve(ref)
    assert "prsm model" in refused.value.hint


async def test_text_that_only_looks_like_a_cid_is_refused(room: Room) -> None:
    """Its length and beginning are right, its letters are not."""
    with pytest.raises(BadCid):
        room.models.resolve("bafy" + "1" * 55)
    good = cid_of("x")
    assert room.models.resolve(str(good)) == good


async def test_cid_that_nobody_has_is_not_found(room: Room) -> None:
    """No peers, no daemons: it ends at once."""
    with pytest.raises(NotFound):
        await room.models.pull(str(cid_of("x")))
    with pytest.raises(NotFound):
        await room.models.find(str(cid_of("x")))


async def test_only_whole_models_are_held_after_a_start(room: Room) -> None:
    """A manifest whose files are not here is known, not held."""
    await room.tools.store.save_manifest(manifest(name="a"))
    again = Models(replace(room.tools, network=Wire()))
    await again.load()
    assert again.held() == ()
    (known,) = await again.known()
    assert (known.manifest.name, known.is_held, known.is_registered) == ("a", False, False)
    assert again.keeping.standing(known.manifest, await again.keeping.stored()) == ("absent", 0)


async def test_add_needs_the_executor(room: Room, tmp_path: Path) -> None:
    """executor.enabled = false: it says which key to set."""
    models = Models(replace(room.tools, pool=None, network=Wire()))
    with pytest.raises(Unsupported) as refused:
        await models.add(wanted(tmp_path / "x"))
    assert "executor.enabled" in refused.value.hint
    assert models.worker_state() == ("running", 0, "off by configuration")


@pytest.mark.parametrize("path", ["relative.onnx", "/nowhere/x.onnx", "/tmp", "/a\0b", "/dev/null"])
async def test_add_of_what_is_no_file_is_refused_before_the_worker(room: Room, path: str) -> None:
    """Relative, absent, a folder, a byte no path has, a device."""
    with pytest.raises(NotFound):
        await room.models.add(wanted(Path(path)))
    assert room.pool.asked == 0


async def test_add_of_a_wrong_tokenizer_is_refused_before_the_worker(
    room: Room, tmp_path: Path
) -> None:
    """The model is there, its tokenizer is not."""
    (tmp_path / "m.onnx").write_bytes(b"x")
    with pytest.raises(NotFound, match="tokenizer"):
        await room.models.add(wanted(tmp_path / "m.onnx", tokenizer=tmp_path / "tokenizer.json"))
    assert room.pool.asked == 0


async def test_add_with_a_taken_name_is_refused_before_the_worker(
    room: Room, tmp_path: Path
) -> None:
    """The ledger has that name and version; another version, or no registration, is fine."""
    (tmp_path / "m.onnx").write_bytes(b"x")
    room.ledger.named = [registered("encoder", "1.0.0", 1)]
    with pytest.raises(Conflict):
        await room.models.add(wanted(tmp_path / "m.onnx"))
    assert room.pool.asked == 0
    for good in (
        wanted(tmp_path / "m.onnx", semver="1.0.1"),
        wanted(tmp_path / "m.onnx", register=False),
    ):
        with pytest.raises(ModelRefused):
            await room.models.add(good)
    assert room.pool.asked == 2


async def test_add_under_a_name_of_somebody_else_is_refused_before_the_worker(
    room: Room, tmp_path: Path
) -> None:
    """Another version does not help: only who registered the first one may add to a name."""
    (tmp_path / "m.onnx").write_bytes(b"x")
    room.ledger.named = [registered("encoder", "1.0.0", 1, publisher=bytes(32))]
    with pytest.raises(LocalError, match=r"belongs to another publisher \(name_taken\)"):
        await room.models.add(wanted(tmp_path / "m.onnx", semver="1.0.1"))
    assert room.pool.asked == 0


@pytest.mark.parametrize(
    ("name", "semver"), [("bad name!", "1.0.0"), ("-x", "1.0.0"), ("good", "1.0.x")]
)
async def test_add_of_what_is_no_name_is_refused_before_the_worker(
    room: Room, tmp_path: Path, name: str, semver: str
) -> None:
    """It would be stored, pinned and listed, and only the ledger would say no."""
    (tmp_path / "m.onnx").write_bytes(b"x")
    room.pool.files = {"a.onnx": b"added"}
    asked = wanted(tmp_path / "m.onnx", name=name, semver=semver)
    with pytest.raises(LocalError, match=r"not well formed \(bad_name\)"):
        await room.models.add(asked)
    assert room.pool.asked == 0
    assert not await room.tools.store.list()


async def test_add_with_a_locked_wallet_is_refused_before_the_worker(
    room: Room, tmp_path: Path
) -> None:
    """The name needs a signature; without a name none is needed."""
    (tmp_path / "m.onnx").write_bytes(b"x")
    room.wallet.locked = True
    with pytest.raises(WalletLocked):
        await room.models.add(wanted(tmp_path / "m.onnx"))
    assert room.pool.asked == 0
    with pytest.raises(ModelRefused):
        await room.models.add(wanted(tmp_path / "m.onnx", register=False))


async def test_a_model_that_a_kill_cut_is_gone_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folders as a kill leaves them when one of two files is stored; then it is added again."""
    files = {"model.onnx": b"shard" * 999, "other.onnx": b"golden" * 999}
    (tmp_path / "m.onnx").write_bytes(b"graph")
    (tmp_path / "run").mkdir()
    async with open_room(tmp_path / "run") as room:
        room.pool.files = files
        add_file = room.tools.store.add_file

        async def copy_at_the_second(
            path: Path, *, on_progress: Progress | None, on_root: OnRoot, move: bool
        ) -> AddedFile:
            if path.name == "other.onnx":
                shutil.copytree(tmp_path / "run", tmp_path / "cut")
            return await add_file(path, move=move, on_progress=on_progress, on_root=on_root)

        monkeypatch.setattr(room.tools.store, "add_file", copy_at_the_second)
        await room.models.add(wanted(tmp_path / "m.onnx", register=False))
        assert len(await room.tools.store.list()) == 2
    async with open_room(tmp_path / "cut") as room:
        assert len(await room.tools.store.list()) == 1
        await room.models.load()
        assert not await room.tools.store.list()
        assert not list((tmp_path / "cut" / "scratch").iterdir())
        room.pool.files = files
        known, _ = await room.models.add(wanted(tmp_path / "m.onnx", register=False))
        assert known.is_held


async def test_refused_model_leaves_nothing_behind(room: Room, tmp_path: Path) -> None:
    """The gate says no: no file, no manifest, no transaction, no scratch folder."""
    (tmp_path / "m.onnx").write_bytes(b"x")
    room.pool.refuse = ModelRefused("external data")
    with pytest.raises(ModelRefused, match="external data"):
        await room.models.add(wanted(tmp_path / "m.onnx"))
    assert room.wallet.submitted == []
    assert await room.models.known() == []
    assert list(room.tools.scratch.iterdir()) == []


@contextmanager
def seconds(monkeypatch: pytest.MonkeyPatch, value: float) -> Iterator[None]:
    """Another patience with the chain."""
    with monkeypatch.context() as patch:
        patch.setattr("prsm.node.models.naming.COMMIT_SECONDS", value)
        yield


async def test_registration_says_how_it_ended(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Done; refused by the ledger; in no block in time: it is stored, and the name waits."""
    found = manifest(name="a")
    cid = await room.tools.store.save_manifest(found)
    outbox = room.models._tools.outbox
    sent = await register_model(outbox, cid, found)
    assert (sent.tx_id, sent.queued) == (TX, "")
    kind, payload = room.wallet.submitted[0]
    assert kind == REGISTER_MODEL
    assert isinstance(payload, RegisterModel)
    assert (payload.manifest, payload.name, payload.semver) == (cid.raw, "a", "1.0.0")
    room.wallet.code = next(code for code in Code if code is not Code.DONE)
    with pytest.raises(TransactionFailed, match=r"refused a@1\.0\.0"):
        await register_model(outbox, cid, found)
    room.wallet.code = None
    with seconds(monkeypatch, 0.01):
        assert (await register_model(outbox, cid, found)).queued == "in no block yet"


async def test_full_store_is_a_typed_error(room: Room, tmp_path: Path) -> None:
    """A quota too small for the file: with the figures, and nothing is left."""
    store = await ModelStore.open(tmp_path / "small", quota=10)
    try:
        (tmp_path / "big").write_bytes(bytes(100))
        with pytest.raises(Full):
            await store.add_file(tmp_path / "big")
        assert await store.used_bytes() == 0
    finally:
        with trio.CancelScope(shield=True):
            await store.close()
    assert room.models.held() == ()


async def test_what_was_added_here_is_kept_and_not_removed_while_in_use(tmp_path: Path) -> None:
    async with open_room(tmp_path) as room:
        (tmp_path / "m.onnx").write_bytes(b"x")
        room.pool.files = {"a.onnx": b"added"}
        known, _ = await room.models.add(wanted(tmp_path / "m.onnx", register=False))
        added = await room.models.manifest(known.cid.raw)
        root = decode_cid(added.files[0].root)
        store = room.tools.store
        assert [(pin.root, pin.name, pin.owner) for pin in await store.pins()] == [
            (root, ADDED, "operator")
        ]
        async with room.models.using(known.cid.raw, 0, holder="shard 0") as path:
            assert path.read_bytes() == b"added"
            await store.unpin(root, ADDED)
            with pytest.raises(Conflict, match="in use: shard 0, run"):
                await store.remove(root)
        await store.pin(root, ADDED)
        await room.models.remove(str(known.cid))
        assert not await store.list()


async def test_removal_that_is_refused_takes_no_file_and_no_pin(tmp_path: Path) -> None:
    """One of its files is in use; two are the same."""
    async with open_room(tmp_path) as room:
        (tmp_path / "m.onnx").write_bytes(b"x")
        room.pool.files = {"a": b"one", "b": b"two", "c": b"three", "again": b"one"}
        known, _ = await room.models.add(wanted(tmp_path / "m.onnx", register=False))
        store = room.tools.store
        before = await store.list(), await store.pins()
        for file in known.manifest.files:
            async with store.leases.hold(decode_cid(file.root), holder="job", purpose="run"):
                with pytest.raises(Conflict, match="in use: job, run"):
                    await room.models.remove(str(known.cid))
            assert (await store.list(), await store.pins()) == before
            assert await store.has_model(known.manifest)
        _, gone = await room.models.remove(str(known.cid))
        assert (gone.files, gone.freed_bytes) == (3, 11)
        assert not await store.list()
        assert not await store.pins()


async def test_removal_leaves_what_another_model_has_come_to_share_meanwhile(
    room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was added after the removal had looked which models there are."""
    (tmp_path / "m.onnx").write_bytes(b"x")
    room.pool.files = {"a": b"one", "b": b"shared"}
    known, _ = await room.models.add(wanted(tmp_path / "m.onnx", register=False))
    others: list[Known] = []
    look = ModelStore.list

    async def then_add(self: ModelStore) -> Sequence[StoredFile]:
        found = await look(self)
        if not others:
            room.pool.files = {"c": b"three", "b": b"shared"}
            asked = wanted(tmp_path / "m.onnx", name="other", register=False)
            others.append((await room.models.add(asked))[0])
        return found

    monkeypatch.setattr(ModelStore, "list", then_add)
    _, gone = await room.models.remove(str(known.cid))
    assert (gone.files, gone.shared, gone.freed_bytes) == (1, 1, 3)
    store = room.tools.store
    assert await store.has_model(others[0].manifest)
    pins = {(pin.root, pin.name) for pin in await store.pins()}
    assert pins == {(decode_cid(file.root), ADDED) for file in others[0].manifest.files}


async def test_removal_during_which_a_file_is_pinned_takes_no_file_and_no_pin(
    room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m.onnx").write_bytes(b"x")
    room.pool.files = {"a": b"one", "b": b"two", "c": b"three"}
    known, _ = await room.models.add(wanted(tmp_path / "m.onnx", register=False))
    store = room.tools.store
    before = {(pin.root, pin.name) for pin in await store.pins()}
    last = max((root for root, _ in before), key=lambda root: root.raw)
    remove = BlockIndex.remove_roots

    async def pin_first(self: BlockIndex, roots: Collection[Cid], names: Collection[str]) -> None:
        await store.pin(last, "mine")
        await remove(self, roots, names)

    with monkeypatch.context() as patched:
        patched.setattr(BlockIndex, "remove_roots", pin_first)
        with pytest.raises(Conflict, match="mine"):
            await room.models.remove(str(known.cid))
    assert {(pin.root, pin.name) for pin in await store.pins()} == before | {(last, "mine")}
    assert await store.has_model(known.manifest)


async def test_two_models_that_are_removed_at_once_leave_nothing_that_both_shared(
    room: Room, tmp_path: Path
) -> None:
    """Each found the other's manifest, and left their file to it: pinned, and of no model."""
    (tmp_path / "m.onnx").write_bytes(b"x")
    store, files = room.tools.store, {"b": b"shared"}
    room.pool.files = {"a": b"one", **files}
    one, _ = await room.models.add(wanted(tmp_path / "m.onnx", register=False))
    room.pool.files = {"c": b"three", **files}
    two, _ = await room.models.add(wanted(tmp_path / "m.onnx", name="other", register=False))
    async with trio.open_nursery() as nursery:
        for known in (one, two):
            nursery.start_soon(room.models.remove, str(known.cid))
    assert not await store.models()
    assert not [*await store.list(), *await store.pins()]


async def test_model_that_is_removed_while_another_fails_leaves_nothing_that_both_shared(
    room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It left their file to the other's manifest, and that was taken back."""
    (tmp_path / "m.onnx").write_bytes(b"x")
    store, files = room.tools.store, {"b": b"shared"}
    room.pool.files = {"a": b"one", **files}
    one, _ = await room.models.add(wanted(tmp_path / "m.onnx", register=False))
    room.pool.files = {"c": b"three", **files}

    async def fail(_stage: Stage, _root: Cid, _name: str, _owner: str) -> None:
        with pytest.raises(Conflict):  # the file is in use
            await room.models.remove(str(one.cid))
        raise Full("no room")

    monkeypatch.setattr(Stage, "pin", fail)
    with pytest.raises(Full):
        await room.models.add(wanted(tmp_path / "m.onnx", name="other", register=False))
    await room.models.remove(str(one.cid))
    assert not [*await store.list(), *await store.pins()]
