"""model_, task_ and storage_ as clients see them: states, tasks, pins, refusals."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import trio

from prsm.protocol.limits import INT_MAX
from prsm.protocol.messages.models import ManifestFile
from prsm.storage.cid import decode_cid
from prsm.storage.store.model_store import ModelStore, StoredFile
from prsm.storage.store.pins import REPAIR
from tests.tools.site import Site, open_site
from tests.tools.stores import DATA, MIB, manifest


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(tmp_path) as made:
        yield made


def store_of(site: Site) -> ModelStore:
    return site.models._tools.store


def read(path: str) -> bytes:
    return Path(path).read_bytes()


async def held(
    site: Site, folder: Path, name: str = "minilm", data: bytes = DATA, **told: object
) -> str:
    """A model of one file that is here."""
    (folder / name).write_bytes(data)
    added = await store_of(site).add_file(folder / name)
    file = ManifestFile("model.onnx", added.root.raw, added.size, added.sha256)
    cid = await store_of(site).save_manifest(manifest(name=name, files=(file,), **told))
    await site.models.refresh()
    return str(cid)


async def test_list_reads_the_store_once_however_many_models_there_are(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each row read it whole: with 60 models of an hour's soak a list took half a second."""
    for number in range(4):
        await held(site, tmp_path, f"model-{number}", DATA + bytes(number + 1))
    reads = []
    listed = ModelStore.list

    async def counted(store: ModelStore) -> Sequence[StoredFile]:
        reads.append(store)
        return await listed(store)

    monkeypatch.setattr(ModelStore, "list", counted)
    rows = (await site.ask("model_list"))["items"]
    assert [row["state"] for row in rows] == ["held"] * 4
    assert len(reads) == 1


async def test_a_publisher_of_the_year_10000_hides_no_other_model(
    site: Site, tmp_path: Path
) -> None:
    """A manifest says what it likes of when it was made; copies of it lie on many nodes."""
    await held(site, tmp_path)
    cid = await held(site, tmp_path, "late", DATA + b"1", created_ms=INT_MAX)
    rows = {row["ref"]: row["created"] for row in (await site.ask("model_list"))["items"]}
    assert rows["late@1.0.0"] == "9999-12-31T23:59:59.999Z"
    assert len(rows) == 2
    assert (await site.ask("model_get", ref=cid))["created"] == rows["late@1.0.0"]


async def test_a_held_model_is_listed_opened_checked_pinned_and_removed(
    site: Site, tmp_path: Path
) -> None:
    cid = await held(site, tmp_path)
    (row,) = (await site.ask("model_list"))["items"]
    assert (row["cid"], row["state"], row["stale"]) == (cid, "held", False)
    assert row["held_bytes"] == row["size_bytes"] == len(DATA)
    opened = await site.ask("model_open", ref="minilm", offline=True)
    assert read(opened["items"][0]["file"]) == DATA
    checked = await site.ask("model_verify", ref="minilm")
    assert (checked["ok"], checked["checked_bytes"]) == (True, len(DATA))
    assert (await site.ask("model_pull", ref=cid))["state"] == "held"
    pinned = await site.ask("model_pin", ref="minilm", name="mine")
    assert (pinned["state"], pinned["task_id"]) == ("held", None)
    assert (await site.ask("model_get", ref="minilm"))["model"]["pins"] == ["mine"]
    error = await site.error("model_remove", ref="minilm")
    assert error["data"]["hint"] == "prsm model unpin minilm@1.0.0 --name mine"
    assert (await site.ask("model_unpin", ref="minilm", name="mine"))["left"] == []
    assert await site.refused("model_unpin", ref="minilm", name="mine") == (-32003, "not_found")
    gone = await site.ask("model_remove", ref="minilm")
    assert (gone["files"], gone["freed_bytes"], gone["shared"]) == (1, len(DATA), 0)
    assert (await site.ask("model_list"))["items"] == []
    assert (await site.ask("storage_getStats"))["used_bytes"] == 0


async def test_a_file_two_models_share_stays_with_the_other(site: Site, tmp_path: Path) -> None:
    await held(site, tmp_path, "a")
    await held(site, tmp_path, "b")
    gone = await site.ask("model_remove", ref="a")
    assert (gone["files"], gone["freed_bytes"], gone["shared"]) == (0, 0, 1)
    assert (await site.ask("model_verify", ref="b"))["ok"]


async def test_a_copy_kept_for_others_goes_when_its_owner_says_so(
    site: Site, tmp_path: Path
) -> None:
    await held(site, tmp_path)
    await site.ask("model_pin", ref="minilm", name=REPAIR)
    assert (await site.ask("model_remove", ref="minilm"))["files"] == 1
    assert (await site.ask("storage_listPins"))["items"] == []


async def test_a_changed_byte_is_found_and_said(site: Site, tmp_path: Path) -> None:
    await held(site, tmp_path)
    (known,) = await site.models.known()
    path = await store_of(site).path(decode_cid(known.manifest.files[0].root))
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(2**20)
        file.write(b"\x00\x00")
    checked = await site.ask("model_verify", ref="minilm")
    assert checked["ok"] is False
    assert "changed" in checked["items"][0]["fault"]
    assert (await site.ask("node_getStatus"))["models"] == 0


async def test_work_is_started_watched_and_its_result_asked_for(site: Site, tmp_path: Path) -> None:
    await held(site, tmp_path)
    task = await site.ask("model_startVerify", ref="minilm")
    assert (task["kind"], task["subject"]) == ("verify", "minilm")
    over = await site.ask("task_get", task_id=task["task_id"], wait_ms=60_000)
    assert (over["state"], over["done_bytes"], over["size_bytes"]) == (
        *("done", len(DATA), len(DATA)),
    )
    assert (await site.ask("model_verify", ref="minilm", task=task["task_id"]))["ok"]
    assert await site.refused("model_pull", ref="minilm", task=task["task_id"]) == (
        *(-32602, "invalid_params"),
    )
    assert await site.refused("task_get", task_id="scrub-00000000") == (-32003, "not_found")
    assert (await site.ask("task_list"))["items"][0]["task_id"] == task["task_id"]
    assert (await site.ask("task_cancel", task_id=task["task_id"]))["state"] == "done"


async def test_a_pin_of_what_is_not_here_fetches_it_and_says_why_it_cannot(site: Site) -> None:
    """Nobody is linked: the pin stays, the task fails with its reason."""
    await store_of(site).save_manifest(manifest(name="far"))
    far = str((await site.models.known())[0].cid)
    pinned = await site.ask("model_pin", ref=far)
    assert pinned["state"] == "fetching"
    over = await site.ask("task_get", task_id=pinned["task_id"], wait_ms=60_000)
    assert (over["state"], over["error"]["reason"]) == ("failed", "not_found")


async def test_unknown_names_and_readers_are_refused_before_a_task_is_made(site: Site) -> None:
    assert await site.refused("model_startPull", ref="nothing") == (-32030, "model_not_found")
    add = {"path": "/x.onnx", "name": "x", "encrypt_to": ["0x" + "g" * 64]}
    assert (await site.refused("model_startAdd", **add))[1] == "invalid_params"
    assert (await site.ask("task_list"))["items"] == []


async def test_a_pull_outlives_the_call_that_began_it(site: Site) -> None:
    """The call is cancelled at once; the task is there and ends by itself."""
    await store_of(site).save_manifest(manifest(name="far"))
    far = str((await site.models.known())[0].cid)
    with trio.move_on_after(0):
        await site.ask("model_pull", ref=far)
    task = await site.ask("model_startPull", ref=far)
    over = await site.ask("task_get", task_id=task["task_id"], wait_ms=60_000)
    assert over["state"] == "failed"


async def test_a_collection_says_what_goes_and_why_before_it_does(
    site: Site, tmp_path: Path
) -> None:
    """14 of 16 MiB: below the mark where adding evicts, above the one a collection goes down to."""
    for number in range(5):
        data = bytes([number]) + DATA[1 : 2 * MIB if number == 4 else len(DATA)]
        await held(site, tmp_path, f"m{number}", data)
    await site.ask("model_pin", ref="m0")
    plan = await site.ask("storage_gc", dry_run=True)
    going = [row["of"] for row in plan["items"] if row["goes"]]
    assert len((await site.ask("model_list"))["items"]) == 5
    assert plan["dry_run"]
    assert going == ["m1@1.0.0/model.onnx"]
    done = await site.ask("storage_gc")
    assert [row["of"] for row in done["items"] if row["goes"]] == going
    assert (await site.ask("node_getStatus"))["models"] == 5 - len(going)
    stats = await site.ask("storage_getStats")
    assert stats["used_bytes"] <= stats["quota_bytes"] * 8 // 10
    assert stats["pinned_bytes"] == len(DATA)
    (pin,) = (await site.ask("storage_listPins"))["items"]
    assert (pin["of"], pin["name"], pin["state"]) == ("m0@1.0.0/model.onnx", "user", "held")


async def test_a_scrub_names_the_damaged_leaf(site: Site, tmp_path: Path) -> None:
    await held(site, tmp_path)
    task = await site.ask("storage_startScrub")
    clean = await site.ask("storage_scrub", task=task["task_id"])
    assert (clean["ok"], clean["files"], clean["checked_bytes"]) == (True, 1, len(DATA))
    (known,) = await site.models.known()
    path = await store_of(site).path(decode_cid(known.manifest.files[0].root))
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(2**20)
        file.write(b"\x00\x00")
    found = await site.ask("storage_scrub")
    assert found["ok"] is False
    assert [(row["of"], row["leaves"]) for row in found["items"]] == [
        ("minilm@1.0.0/model.onnx", [1])
    ]
    assert (await site.ask("model_list"))["items"][0]["state"] != "held"
