"""CARs of a node: what goes out as one comes in again, and stays until it is given up."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from prsm.protocol.limits import MIB
from prsm.storage.dag.naming import name_path
from prsm.storage.dag.packing import pack
from prsm.storage.dag.unixfs import LEGACY
from tests.tools.site import Site, open_site

DATA = bytes(range(256)) * (5 * MIB // 1024)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(tmp_path) as opened:
        yield opened


async def test_folder_comes_in_and_goes_out_again(site: Site, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_bytes(DATA)
    (tmp_path / "in" / "b").write_bytes(b"b")
    with (tmp_path / "in.car").open("wb") as out:
        tree = pack(tmp_path / "in", out)
    taken = await site.ask("storage_import", path=str(tmp_path / "in.car"))
    assert (taken["cid"], taken["blocks"]) == (tree.cid, 5)
    assert [(one["path"], one["size_bytes"]) for one in taken["files"]] == [
        ("a", len(DATA)),
        ("b", 1),
    ]
    assert all(one["cid"] == one["root"] for one in taken["files"])
    (task,) = (await site.ask("task_list"))["items"]
    assert (task["kind"], task["subject"]) == ("import", str(tmp_path / "in.car"))
    assert (task["state"], task["done_bytes"]) == ("done", len(DATA) + 1)
    assert (await site.ask("storage_getStats"))["files"] == 2
    again = tmp_path / "again.car"
    done = await site.ask("storage_export", cid=tree.cid, path=str(again))
    assert (done["cid"], done["blocks"]) == (tree.cid, 5)
    assert done["size_bytes"] == again.stat().st_size == (tmp_path / "in.car").stat().st_size
    pins = (await site.ask("storage_listPins"))["items"]
    assert [(pin["name"], pin["state"]) for pin in pins] == [(f"car:{tree.cid}", "held")] * 2
    gone = await site.ask("storage_remove", cid=tree.cid)
    assert gone == {"cid": tree.cid, "files": 2, "freed_bytes": len(DATA) + 1, "kept": 0}
    assert (await site.ask("storage_getStats"))["files"] == 0
    assert (await site.refused("storage_remove", cid=tree.cid))[1] == "not_found"


async def test_file_of_a_foreign_profile_says_both_roots(site: Site, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(DATA)
    with (tmp_path / "f.car").open("wb") as out:
        theirs = pack(tmp_path / "f", out, LEGACY)
    (file,) = (await site.ask("storage_import", path=str(tmp_path / "f.car")))["files"]
    assert file["cid"] == str(theirs.root.dag.root)
    assert file["root"] == name_path(tmp_path / "f").cid
    assert file["profile"] == "legacy"


async def test_refusals_are_said(site: Site, tmp_path: Path) -> None:
    (tmp_path / "bad.car").write_bytes(b"no car")
    cid = name_path(tmp_path / "bad.car").cid
    out = str(tmp_path / "out.car")
    assert (await site.refused("storage_import", path=str(tmp_path / "bad.car")))[1] == (
        "bad_encoding"
    )
    assert (await site.refused("storage_import", path=str(tmp_path / "none")))[1] == "not_found"
    assert (await site.refused("storage_import", path="relative.car"))[1] == "invalid_params"
    assert (await site.refused("storage_export", cid=cid, path=out))[1] == "not_found"
    assert (await site.refused("storage_export", cid="Qm", path=out))[1] == "invalid_params"
    assert not await trio.Path(out).exists()
