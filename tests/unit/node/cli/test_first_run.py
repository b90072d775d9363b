"""prsm run on a node that has nothing yet: models are made, receipts checked, Ctrl-C is kind."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from prsm.node.cli import proof, verbs
from prsm.node.cli.session import Session
from prsm.node.rpc.methods.node import NodeStatus
from prsm.node.rpc.methods.work import Job, JobFault
from prsm.node.rpc.reasons import entry_for
from prsm.protocol.errors import LocalError
from tests.tools.rpc_node import sample
from tests.tools.served import Served


class Missing(LocalError):
    """No such model, as the node says it."""

    reason = "model_not_found"


@pytest.fixture
def made(served: Served, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Recipes that were made; the model is there from then on."""
    found: list[str] = []

    def build(_session: Session, recipe: str) -> None:
        found.append(recipe)
        served.node.answers["infer_run"] = done()

    monkeypatch.setattr(verbs, "build_and_add", build)
    served.node.answers["infer_run"] = Missing("no model 'encoder'")
    return found


def done(**changed: Any) -> Job:  # noqa: ANN401 - fields of a job
    job: Job = msgspec.structs.replace(sample(Job), **{"state": "done", "is_over": True, **changed})
    return job


def develop(served: Served, *, is_dev: bool) -> None:
    status = msgspec.structs.replace(sample(NodeStatus), development=is_dev)
    served.node.answers["node_getStatus"] = status


class Alone(LocalError):
    """Fewer workers than opinions, as the node says it."""

    reason = "too_few_peers"


@pytest.mark.parametrize(
    ("is_dev", "peers", "says"),
    [
        (True, 0, "init --dev"),
        (True, 0, "by three where two must agree"),
        (False, 0, "prsm net peers"),
        (True, 2, "connect more workers"),
    ],
)
def test_a_node_that_is_alone_hears_who_does_jobs(
    served: Served, peers: int, says: str, *, is_dev: bool
) -> None:
    served.node.answers["infer_run"] = Alone("0 workers", hint="connect more workers")
    served.node.answers["node_getStatus"] = msgspec.structs.replace(
        sample(NodeStatus), development=is_dev, peers=peers
    )
    result = served.run("run", "m", "x")
    assert (result.exit_code, says in result.stderr) == (1, True)
    assert "PRSM-3" in result.stderr


def test_a_model_that_ships_is_made_on_a_development_network(
    served: Served, made: list[str]
) -> None:
    develop(served, is_dev=True)
    result = served.run("run", "encoder", "x")
    assert result.exit_code == 0, result.stderr
    assert made == ["encoder"]
    assert "made by its recipe" in result.stderr
    assert "prsm proof show" in result.stderr


def test_elsewhere_it_is_asked_for_and_others_are_never_made(
    served: Served, made: list[str]
) -> None:
    develop(served, is_dev=False)
    assert served.run("run", "encoder", "x").exit_code == 2  # nobody can answer
    assert served.run("run", "other", "x").exit_code == 1
    assert made == []
    assert served.run("run", "encoder", "x", "--yes").exit_code == 0
    assert made == ["encoder"]


@pytest.mark.parametrize(("verdict", "says"), [(0, "verified: "), (6, "was refused")])
def test_a_receipt_is_checked_as_it_is_written(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verdict: int, says: str
) -> None:
    (tmp_path / "verdict.py").write_text(f"import sys\nsys.exit({verdict})\n", encoding="ascii")
    monkeypatch.setattr(proof, "VERIFIER", "verdict")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (served.home / "genesis.json").write_text("{}", encoding="ascii")
    served.node.answers["infer_run"] = done()
    file = tmp_path / "receipt.json"
    result = served.run("run", "m", "x", "--proof", str(file), "--json")
    assert (result.exit_code, says in result.stderr) == (verdict, True)
    assert "output_root" in json.loads(result.stdout)
    assert file.exists()


@pytest.mark.parametrize(("option", "ended"), [((), False), (("--cancel-on-interrupt",), True)])
def test_ctrl_c_ends_the_waiting_and_only_on_request_the_job(
    served: Served, monkeypatch: pytest.MonkeyPatch, option: tuple[str, ...], ended: bool
) -> None:
    served.node.answers["infer_run"] = done(state="running", is_over=False)
    asked: list[str] = []

    def ask(_session: Session, method: str, _params: object = None) -> dict[str, Any]:
        asked.append(method)
        if method == "job_get":
            raise KeyboardInterrupt
        return {}

    monkeypatch.setattr(Session, "ask", ask)
    result = served.run("run", "m", "x", *option)
    assert result.exit_code == 130
    assert ("job_cancel" in asked) is ended
    assert ("prsm job show" in result.stderr) is not ended


def test_a_job_that_failed_has_the_code_of_its_reason(served: Served) -> None:
    """As if the call had been refused with it: programs look at `code` and `data.reason`."""
    fault = JobFault("no_quorum_of_results", "too few agree")
    served.node.answers["infer_run"] = done(state="failed", error=fault)
    result = served.run("run", "m", "x", "--json")
    error = json.loads(result.stdout)["error"]
    entry = entry_for("no_quorum_of_results")
    assert (error["code"], error["message"]) == (entry.code, "too few agree")
    assert (error["data"]["reason"], error["data"]["prsm_code"]) == (
        "no_quorum_of_results",
        entry.prsm_code,
    )
    assert result.exit_code == entry.exit_code


def test_job_wait_takes_the_first_characters_of_an_id(served: Served) -> None:
    job = done()
    served.node.answers["job_get"] = job
    result = served.run("job", "wait", job.job_id[:8], "--json")
    assert result.exit_code == 0, result.stderr
    params = dict(served.node.calls)["job_get"]
    assert params.job_id == job.job_id
