"""Networks of manifests with real daemons: every stage by itself; partitions and chaos are long."""

import io
import os
from functools import partial
from pathlib import Path

import pytest

from prsm.testnet import chaos, checking, launch, links, stages
from prsm.testnet.manifest import read
from prsm.testnet.report import Screen

pytestmark = [pytest.mark.slow, pytest.mark.e2e]
NETWORKS = Path(__file__).parents[2] / "testnet" / "networks"


def silent() -> Screen:
    return Screen(io.StringIO())


def test_stages_of_a_network_with_a_liar_and_a_partition(tmp_path: Path) -> None:
    """Each stage by itself; what is done is not done again; nothing is left running.

    One of four votes twice, and for two seconds there is no quorum: evidence comes into a block,
    nobody honest is punished, no block where there was no quorum, nothing acknowledged is lost.
    """
    folder = tmp_path / "net"
    proxy = 0
    try:
        network = stages.up(folder, read(NETWORKS / "gate.toml"))
        assert len(network.nodes) == 4
        proxy = links.ask(folder, links.Order()).pid
        loaded = stages.run_trio(partial(stages.load_alone, folder, 2.0))
        assert isinstance(loaded["acknowledged"], int)
        assert loaded["acknowledged"] >= 1
        perturbed = stages.run_trio(partial(stages.perturb, folder, silent()))
        assert perturbed["faults"] == {"partition": 1}
        assert perturbed["minority_commits"] == 0, perturbed
        assert perturbed["partition_heal_ms"], "a write came through; how soon is for long runs"
        again = stages.run_trio(partial(stages.perturb, folder, silent()))
        assert again["faults"] == {}
        stages.run_trio(partial(checking.wait, folder))
        judged = stages.run_trio(partial(checking.check, folder))
        assert judged["broken"] == []
        assert judged["acknowledged"] == loaded["acknowledged"]
        assert isinstance(judged["evidence"], int)
        assert judged["evidence"] >= 1
    finally:
        assert stages.down(folder)
    assert all(node.pid == 0 for node in launch.load(folder).nodes)
    with pytest.raises(ProcessLookupError):
        os.kill(proxy, 0)


@pytest.mark.long
@pytest.mark.parametrize("name", ["simple", "faulty", "partitions", "wan", "mixed-versions"])
def test_network_of_a_file_holds(name: str, tmp_path: Path) -> None:
    """All stages of each manifest, under one minute each."""
    document = stages.run(read(NETWORKS / f"{name}.toml"), tmp_path / "net", silent())
    assert stages.failures(document) == [], document


@pytest.mark.long
def test_two_minutes_of_chaos_with_a_liar(tmp_path: Path) -> None:
    """Every kind of fault, jobs and transfers: nothing lost or paid twice."""
    options = chaos.Options(minutes=2, seed=1)
    document = chaos.run(options, tmp_path / "net", silent())
    assert chaos.failures(document) == [], document
