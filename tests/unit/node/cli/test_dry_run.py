"""prsm run --dry-run: the plan in words, one document with --json, and nothing submitted."""

import json

import msgspec
import pytest

from prsm.node.rpc.methods.offers import JobPlan
from tests.tools.rpc_node import sample
from tests.tools.served import Served


def test_dry_run_shows_the_plan_and_submits_nothing(served: Served) -> None:
    found = msgspec.structs.replace(
        sample(JobPlan), because=("one machine: 9 ms, plan: 3 ms",), fees="14000"
    )
    served.node.answers["infer_plan"] = found
    words = ("run", "m", "x", "--dry-run", "--redundancy", "1-of-1", "--spread", "2")
    result = served.run(*words)
    assert result.exit_code == 0
    assert "one machine: 9 ms, plan: 3 ms" in result.stdout
    assert "fees\t0.014 FTNS" in result.stdout
    [(method, params)] = served.node.calls
    assert (method, params.redundancy, params.spread) == ("infer_plan", "1-of-1", 2)
    document = json.loads(served.run(*words, "--json").stdout)
    assert document["because"] == list(found.because)
    assert served.run("run", "m", "x", "--redundancy", "1-of-2").exit_code == 2


@pytest.mark.parametrize("seconds", ["nan", "inf", "0.2", "1e9"])
def test_a_deadline_nobody_could_keep_is_a_slip_of_the_line(served: Served, seconds: str) -> None:
    refused = served.run("run", "m", "x", "--deadline", seconds)
    assert (refused.exit_code, "--deadline" in refused.stderr) == (2, True)
    assert not served.node.calls
