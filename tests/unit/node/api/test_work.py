"""model_, infer_ and job_ in JSON on a node without peers or worker: every refusal is typed."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from prsm.protocol.messages.models import ModelManifest
from prsm.protocol.tensors import Dtype
from prsm.storage.cid import Cid
from tests.tools.site import Site, open_site
from tests.tools.stores import manifest
from tests.tools.work import make_manifest

UNKNOWN = "0x" + "77" * 32


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(tmp_path) as opened:
        yield opened


async def put(site: Site, found: ModelManifest) -> Cid:
    """Make a model known here, without its files."""
    cid = await site.models._tools.store.save_manifest(found)
    site.models._held[cid] = found
    return cid


def tensor(**changes: object) -> dict[str, object]:
    given = {"name": "x", "dtype": "f32", "shape": [2, 3], "data": "0x" + "00" * 24}
    return given | changes


@pytest.mark.parametrize("method", ["model_get", "model_pull"])
@pytest.mark.parametrize(
    ("ref", "expected"),
    [
        ("nothing", (-32030, "model_not_found")),
        ("nothing@1.0.0", (-32030, "model_not_found")),
        ("bafy" + "!" * 60, (-32602, "invalid_params")),
    ],
)
async def test_unknown_model_is_refused(
    site: Site, method: str, ref: str, expected: tuple[int, str]
) -> None:
    """By name, by version, and text that only looks like a CID."""
    assert await site.refused(method, ref=ref) == expected


async def test_pull_of_a_cid_nobody_has_is_not_found(site: Site) -> None:
    """Well-formed, but there are no peers: it ends at once."""
    cid = str(await _elsewhere(site))
    assert await site.refused("model_pull", ref=cid) == (-32003, "not_found")


async def _elsewhere(site: Site) -> Cid:
    from prsm.storage.cid import Codec, hash_block  # noqa: PLC0415 - two names, used here only

    assert site.models.held() == ()
    return hash_block(b"somewhere else", Codec.DAG_PB)


async def test_add_needs_a_worker(site: Site) -> None:
    """The executor is off: it says what to set."""
    assert await site.refused("model_add", path="/x.onnx", name="x") == (-32009, "unsupported")


async def test_models_are_listed_and_described(site: Site) -> None:
    """Held and not named on the ledger; a manifest without a whole graph shows no ends."""
    whole, parts = make_manifest(), manifest(name="parts")
    cut = manifest(
        name="cut",
        shards=tuple(s for s in make_manifest().shards if s.stages == 2),
        files=make_manifest().files,
    )
    for found in (whole, parts, cut):
        await put(site, found)
    listed = {m["name"]: m for m in (await site.ask("model_list"))["items"]}
    assert set(listed) == {"adder", "parts", "cut"}
    assert not listed["adder"]["registered"]
    shown = await site.ask("model_get", ref="adder@1.0.0")
    assert [form["name"] for form in shown["inputs"]] == ["x", "mask"]
    assert (await site.ask("model_get", ref="cut"))["inputs"] == []


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, (-32035, "input_mismatch")),
        ({"texts": ["a"], "inputs": [tensor()]}, (-32035, "input_mismatch")),
        ({"inputs": [tensor(dtype="f64")]}, (-32035, "input_mismatch")),
        ({"inputs": [tensor(shape=[2, 4])]}, (-32035, "input_mismatch")),
        ({"inputs": [tensor(shape=[-1])]}, (-32602, "invalid_params")),
        ({"inputs": [tensor(data="00")]}, (-32602, "invalid_params")),
        ({"inputs": [tensor(data="0x0")]}, (-32602, "invalid_params")),
        ({"texts": ["a"], "stages": 0}, (-32602, "invalid_params")),
        ({"texts": ["a"], "replicas": 3}, (-32602, "invalid_params")),
        ({"texts": ["a"], "deadline_ms": 1}, (-32602, "invalid_params")),
        ({"texts": ["a"], "max_price": "-1"}, (-32602, "invalid_params")),
    ],
)
async def test_run_with_wrong_input_is_refused_at_once(
    site: Site, params: dict[str, object], expected: tuple[int, str]
) -> None:
    """Neither or both inputs, unknown dtype, bytes that do not fit the shape, out of bounds."""
    await put(site, make_manifest())
    assert await site.refused("infer_run", model="adder", **params) == expected


async def failed(site: Site, **params: object) -> tuple[str, str]:
    """Run a job that must fail before money moves: its reason and its sentence."""
    job: Any = await site.ask("infer_run", model="adder", wait_ms=5000, **params)
    assert job["state"] == "failed"
    assert job["lock_height"] == 0
    assert job["error"] is not None
    return job["error"]["reason"], job["error"]["what"]


@pytest.mark.parametrize(
    ("inputs", "what"),
    [
        ([tensor(name="z")], "the model takes"),
        ([], "same number of rows"),
        ([tensor(shape=[0, 3], data="0x")], "same number of rows"),
        ([tensor(shape=[], data="0x" + "00" * 4)], "same number of rows"),
        ([tensor(), tensor()], "same number of rows"),
        ([tensor(), tensor(name="mask", shape=[1, 3], data="0x" + "00" * 12)], "same number"),
    ],
)
async def test_job_with_inputs_of_another_model_fails_before_money_moves(
    site: Site, inputs: list[dict[str, object]], what: str
) -> None:
    """Names, counts of rows, none at all: the job says which."""
    await put(site, make_manifest())
    reason, sentence = await failed(site, inputs=inputs)
    assert reason == "input_mismatch"
    assert what in sentence


async def test_job_with_another_dtype_or_shape_fails_before_money_moves(site: Site) -> None:
    """The io table of the whole graph decides: a wrong dtype, a wrong rank."""
    specs = next(s for s in make_manifest().shards if s.stages == 1).inputs
    assert all(spec.dtype is not Dtype.F16 for spec in specs)
    await put(site, make_manifest())
    wrong = [
        {"name": spec.name, "dtype": "f16", "shape": [1] * len(spec.shape), "data": "0x0000"}
        for spec in specs
    ]
    reason, sentence = await failed(site, inputs=wrong)
    assert reason == "input_mismatch"
    assert specs[0].name in sentence


async def test_job_without_peers_fails_before_money_moves(site: Site) -> None:
    """A plan needs workers: typed, and the balance is as before."""
    await put(site, manifest(name="adder"))
    reason, _ = await failed(site, texts=["a text"])
    assert reason == "unsupported", "the model has no tokenizer"
    assert (await site.ask("account_getBalance"))["nonce"] == 0


@pytest.mark.parametrize("method", ["job_get", "job_getResult", "job_getProof"])
async def test_unknown_job_is_refused(site: Site, method: str) -> None:
    """Never submitted here, and not on the ledger."""
    assert (await site.refused(method, job_id=UNKNOWN))[0] == -32003


async def test_failed_job_s_result_is_its_error(site: Site) -> None:
    """Asking for the result of what failed gives the reason again."""
    await put(site, make_manifest())
    job = await site.ask("infer_run", model="adder", wait_ms=5000, inputs=[tensor(name="z")])
    assert await site.refused("job_getResult", job_id=job["job_id"]) == (-32035, "input_mismatch")
    assert [item["job_id"] for item in (await site.ask("job_list"))["items"]] == [job["job_id"]]
