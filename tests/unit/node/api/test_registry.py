"""The registry as clients see it: versions, channels, yanks, cards, and what is not believed."""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from prsm.protocol.codec import Record
from prsm.protocol.ed25519 import Ed25519Signer
from prsm.protocol.messages.models import ManifestFile, ModelManifest
from prsm.protocol.slices import encode_slices
from prsm.protocol.tensors import Dtype, Tensor, TensorHead
from prsm.protocol.transactions.payloads import REGISTER_MODEL, SET_CARD, RegisterModel
from prsm.protocol.transactions.registry import SetCard
from prsm.storage.card import card_cid, encode_card, sign_card
from prsm.storage.cid import decode_cid, hash_block
from prsm.storage.manifest import sign_manifest
from tests.tools.cards import card
from tests.tools.site import Site, open_site
from tests.tools.stores import DATA, manifest

pytestmark = pytest.mark.slow


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(tmp_path) as made:
        yield made


async def sent(site: Site, kind: int, payload: Record) -> None:
    tx_id = await site.parts.wallet.submit(kind, payload)
    result = await site.parts.wallet.wait_committed(tx_id)
    assert result.receipt.code.name == "DONE", result


async def publish(
    site: Site, folder: Path, semver: str, *, signer: Ed25519Signer | None = None
) -> ModelManifest:
    """A registered model that is here, signed by the wallet or by somebody else."""
    (folder / "file").write_bytes(DATA)
    store = site.models._tools.store
    added = await store.add_file(folder / "file")
    wallet = site.parts.wallet
    by = signer or wallet.signer
    found = manifest(
        semver=semver,
        files=(ManifestFile("model.onnx", added.root.raw, added.size, added.sha256),),
        publisher=by.public_key,
        chain_id=site.cluster.genesis.chain_id,
    )
    signed = sign_manifest(found, by)
    cid = await store.save_manifest(signed)
    await sent(
        site,
        REGISTER_MODEL,
        RegisterModel(
            manifest=cid.raw,
            name=signed.name,
            semver=semver,
            pinned_sha256=signed.compute.pinned_sha256,
            total_bytes=signed.total_bytes,
            parents=(),
        ),
    )
    await site.models.refresh()
    return signed


async def test_versions_channels_and_yanks_decide_what_a_name_means(
    site: Site, tmp_path: Path
) -> None:
    for semver in ("1.0.0", "1.1.0"):
        await publish(site, tmp_path, semver)
    assert (await site.ask("model_get", ref="minilm"))["model"]["semver"] == "1.1.0"
    assert (await site.ask("model_get", ref="minilm@^1.0"))["model"]["semver"] == "1.1.0"
    channel = {"name": "minilm", "channel": "stable", "semver": "1.0.0"}
    await site.committed((await site.ask("model_setChannel", **channel))["tx_id"])
    assert (await site.ask("model_get", ref="minilm"))["model"]["semver"] == "1.0.0"
    yank = {"name": "minilm", "semver": "1.0.0", "why": "bad rows"}
    await site.committed((await site.ask("model_yank", **yank))["tx_id"])
    assert (await site.refused("model_get", ref="minilm"))[1] == "yanked"
    assert (await site.ask("model_get", ref="minilm@1.0.0"))["model"]["local"]
    told = await site.ask("storage_listIntents")
    assert (told["validators_linked"], told["validators"]) == (1, 1)
    assert ("channel:minilm:stable", "SetChannel", "done") in {
        (row["key"], row["kind"], row["how"]) for row in told["items"]
    }
    gone = await site.refused("storage_cancelIntent", key="channel:minilm:stable")
    assert gone == (-32003, "not_found")
    rows = (await site.ask("model_listVersions", name="minilm"))["items"]
    assert [(row["semver"], row["channels"], row["yanked"]) for row in rows] == [
        ("1.0.0", ["stable"], "bad rows"),
        ("1.1.0", [], ""),
    ]
    assert await site.refused("model_listVersions", name="none") == (-32003, "not_found")
    assert (await site.refused("model_get", ref="minilm@^7"))[1] == "model_not_found"


async def test_what_waits_is_shown_counted_and_taken_back(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if no validator answered: the order has no transaction, says why, and is given up."""
    await publish(site, tmp_path, "1.0.0")
    outbox = site.models._tools.outbox
    monkeypatch.setattr(outbox, "linked", lambda: (0, 4))
    channel = {"name": "minilm", "channel": "stable", "semver": "1.0.0"}
    told = await site.ask("model_setChannel", **channel)
    assert (told["tx_id"], told["queued"]) == (
        *(None, "it will be sent when validators answer: none of 4 does now"),
    )
    assert (await site.ask("storage_getStats"))["outbox"] == 1
    (row,) = (await site.ask("storage_listIntents"))["items"]
    assert (row["waits_for"], row["how"], row["tx_id"]) == (told["queued"], "", None)
    offer = {"cid": str(hash_block(b"x")), "holder": "0x" + "00" * 32, "price": "1", "rounds": 1}
    assert (await site.refused("storage_offerDeal", **offer))[1] == "cannot_wait"
    assert (await site.ask("storage_cancelIntent", key=row["key"]))["tx_id"] is None
    (row,) = (await site.ask("storage_listIntents"))["items"]
    assert (row["waits_for"], row["how"]) == ("", "cancelled")


async def test_a_manifest_of_another_hand_is_refused_by_name(site: Site, tmp_path: Path) -> None:
    """The ledger names us; the manifest is signed by somebody else. By its CID it is a draft."""
    forged = await publish(site, tmp_path, "1.0.0", signer=Ed25519Signer(b"f" * 32))
    for method in ("model_get", "model_pull", "model_open"):
        assert (await site.refused(method, ref="minilm"))[1] == "foreign_manifest"
    cid = (await site.ask("model_list"))["items"][0]["cid"]
    assert (await site.ask("model_get", ref=cid))["model"]["name"] == forged.name


async def test_a_card_is_its_publishers_word_or_none(site: Site, tmp_path: Path) -> None:
    signed = await publish(site, tmp_path, "1.0.0")
    error = await site.error("model_getCard", ref="minilm")
    assert (error["data"]["reason"], "SetCard" in error["data"]["hint"]) == ("not_found", True)
    signer = site.parts.wallet.signer
    mine = msgspec.structs.replace(
        card(name="minilm", semver="1.0.0"),
        publisher=signer.public_key,
        chain_id=site.cluster.genesis.chain_id,
        signature=None,
    )
    mine = sign_card(mine, signer)
    raw = encode_card(mine)
    await site.models._tools.store.blocks.put(card_cid(mine).digest, raw)
    (known,) = await site.models.known()
    await sent(site, SET_CARD, SetCard(known.cid.raw, card_cid(mine).raw))
    told = await site.ask("model_getCard", ref="minilm@1.0.0", offline=True)
    assert (told["checked"], told["card"]["summary"]) == (True, mine.summary)
    assert signed.card is None


async def test_search_without_the_executor_says_what_to_do(site: Site) -> None:
    error = await site.error("model_search", query="sentences")
    assert error["data"]["reason"] == "unsupported"
    assert error["data"]["hint"]


async def test_copies_of_a_registered_model_are_counted_and_wished(
    site: Site, tmp_path: Path
) -> None:
    """One node holds it and three are usual; one is wished, and then none is missing."""
    await publish(site, tmp_path, "1.0.0")
    (row,) = (await site.ask("storage_getCopies"))["items"]
    assert (row["ref"], row["copies"], len(row["holders"]), row["here"]) == (
        *("minilm@1.0.0", 3, 1, True),
    )
    told = await site.ask("storage_repair", ref="minilm")
    assert told["items"][0]["cid"] == row["cid"]
    await site.ask("storage_setCopies", ref="minilm", copies=1)
    pins = (await site.ask("storage_listPins"))["items"]
    assert "copies=1" in {pin["name"] for pin in pins}
    assert (await site.refused("storage_repair", ref="nothing"))[1] == "model_not_found"


async def test_a_deal_is_offered_listed_and_withdrawn(site: Site, tmp_path: Path) -> None:
    """The money is locked and comes back; somebody else's deal is not taken."""
    signed = await publish(site, tmp_path, "1.0.0")
    cid = str(decode_cid(signed.files[0].root))
    offer = {"cid": cid, "holder": "0x" + "ab" * 32, "price": "10", "rounds": 3}
    made = await site.ask("storage_offerDeal", **offer)
    await site.committed(made["tx_id"])
    (deal,) = (await site.ask("storage_listDeals"))["items"]
    assert (deal["deal"], deal["status"], deal["locked"]) == (made["deal"], "offered", "30")
    assert (deal["cid"], deal["is_client"], deal["is_holder"]) == (cid, True, False)
    await site.error("storage_acceptDeal", deal=made["deal"])
    gone = await site.ask("storage_releaseDeal", deal=made["deal"])
    await site.committed(gone["tx_id"])
    (deal,) = (await site.ask("storage_listDeals"))["items"]
    assert (deal["status"], deal["locked"]) == ("withdrawn", "0")


async def test_a_dataset_is_checked_stored_and_named(site: Site, tmp_path: Path) -> None:
    labels = Tensor(TensorHead("label", Dtype.I64, (2,)), bytes(16))
    pixels = Tensor(TensorHead("pixels", Dtype.U8, (2, 3)), bytes(6))
    good, bad = tmp_path / "good.slices", tmp_path / "bad.slices"
    good.write_bytes(encode_slices([(pixels, labels)]))
    for raw in (b"PK", encode_slices([(pixels,)]), good.read_bytes() + b"x"):
        bad.write_bytes(raw)
        refused = await site.refused("dataset_add", path=str(bad), name="digits-test")
        assert refused[1] == "bad_dataset"
    assert (await site.refused("dataset_add", path="/nowhere", name="d"))[1] == "not_found"
    told = await site.ask("dataset_add", path=str(good), name="digits-test", price="5")
    assert (told["rows"], told["registered"], told["price"]) == (2, True, "5")
    assert [one["ref"] for one in (await site.ask("dataset_list"))["items"]] == [told["ref"]]
    shown = await site.ask("model_get", ref="digits-test")
    assert (shown["kind"], shown["model"]["registered"]) == ("dataset", True)
    again = await site.refused("dataset_add", path=str(good), name="digits-test")
    assert again[1] == "conflict"
    task = (await site.ask("task_list"))["items"][0]
    assert (task["kind"], task["subject"], task["state"]) == (
        *("dataset", "digits-test@1.0.0", "failed"),
    )
    assert (await site.ask("model_listScores", ref="digits-test"))["items"] == []
    both = {"model": "digits-test", "dataset": "digits-test"}
    assert (await site.refused("model_evaluate", **both))[1] == "unsupported"
    unknown = {"model": "nothing", "dataset": "digits-test"}
    assert (await site.refused("model_startEvaluate", **unknown))[1] == "model_not_found"
