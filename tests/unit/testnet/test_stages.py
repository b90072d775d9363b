"""Figures and bars of the stages and of chaos; the stages themselves need daemons."""

from pathlib import Path

import pytest

from prsm.node.config.load import load
from prsm.protocol.errors import LocalError
from prsm.protocol.genesis import from_json
from prsm.testnet import links, scene, stages
from prsm.testnet.chaos import Options, check_options, kinds_of, manifest_of
from prsm.testnet.deceit import lie_of
from prsm.testnet.faults import Kind, Lie
from prsm.testnet.manifest import parse, to_toml
from prsm.testnet.perturbed import Outcome
from prsm.testnet.stages import failures, outcomes_of

WANTED = """
name = "x"
seed = 3
[load]
accounts = 2
[nodes.a]
region = "eu"
[nodes.b]
lies = "silent"
[nodes.c]
[nodes.d]
[nodes.e]
role = "light"
[nodes.f]
role = "liar"
[[links]]
between = ["*", "*"]
delay_ms = 9
"""


def test_network_of_a_manifest_is_made_as_it_says(tmp_path: Path) -> None:
    """Validators in the genesis, roles in the configurations, every address a port of the proxy."""
    network = scene.make(tmp_path / "net", parse(WANTED))
    genesis = from_json(network.genesis.read_bytes())
    assert len(genesis.validators) == 4
    described = links.read(tmp_path / "net")
    assert described is not None
    assert len(described.ports) == 30
    assert {row.delay_ms for row in described.base} == {9}
    told = {(dialler, dialled): port for dialler, dialled, port in described.ports}
    configs = [load(node.home.config, environ={}).config for node in network.nodes]
    for place, config in enumerate(configs):
        ports = {int(address.split("/")[4]) for address in config.net.bootstrap}
        assert ports == {told[place, other] for other in range(6) if other != place}
        assert config.net.outbound == 0, "what peers tell would be a way around the proxy"
    assert [config.consensus.validator for config in configs] == [True] * 4 + [False] * 2
    assert [config.executor.enabled for config in configs] == [False] * 5 + [True]
    assert configs[0].net.region == "eu"
    assert [node.liar for node in network.nodes] == [False] * 5 + [True]
    assert lie_of(network.nodes[1].home) is Lie.SILENT
    assert parse((tmp_path / "net" / scene.MANIFEST).read_text()) == parse(WANTED)


def test_plain_network_needs_no_proxy(tmp_path: Path) -> None:
    """Without links and without faults of links."""
    scene.make(tmp_path / "net", parse('name = "x"\n[nodes.a]\n'))
    assert links.read(tmp_path / "net") is None


def outcome(kind: Kind, heal_ms: float | None, commits: int = 0) -> Outcome:
    return Outcome(kind, (0,), 0.0, 1.0, (), commits, heal_ms)


def test_figures_of_faults_are_by_kind_and_of_partitions() -> None:
    """A killed node's own start counts for no partition."""
    document = outcomes_of(
        [
            outcome(Kind.SPLIT, 100.0),
            outcome(Kind.FLAP, 300.0, commits=1),
            outcome(Kind.KILL, 9_000.0),
            outcome(Kind.CUT, None),
        ],
        5.0,
    )
    assert document["faults"] == {"partition": 1, "flapping": 1, "kill": 1, "cut": 1}
    assert document["minority_commits"] == 1
    assert document["partitions"] == 2
    assert document["partition_heal_ms"] == {"p50": 300.0, "p99": 300.0, "max": 300.0}
    heal = document["heal_ms"]
    assert isinstance(heal, dict)
    assert set(heal) == {"partition", "flapping", "kill"}


def test_what_is_above_its_bar_is_a_failure() -> None:
    """Each by itself; stages that were not run fail nothing."""
    assert failures({}) == []
    good = outcomes_of([outcome(Kind.SPLIT, 5_000.0)], 5.0)
    assert failures({"perturb": good, "check": {"broken": []}}) == []
    slow = outcomes_of([outcome(Kind.SPLIT, 5_000.1)], 5.0)
    assert len(failures({"perturb": slow})) == 1
    minority = outcomes_of([outcome(Kind.SPLIT, 1.0, commits=2)], 5.0)
    assert failures({"perturb": minority}) == ["2 blocks without a quorum"]
    assert failures({"check": {"broken": ["fork"]}}) == ["fork"]


def test_folder_of_a_run_goes_unless_it_was_given_or_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A failure leaves it, and says where."""
    with stages.place(None) as where:
        where.mkdir()
    assert not where.exists()

    def fail(where: Path) -> None:
        where.mkdir()
        raise RuntimeError

    with pytest.raises(RuntimeError), stages.place(None) as where:
        fail(where)
    assert where.exists()
    assert str(where) in capsys.readouterr().err
    where.rmdir()
    where.parent.rmdir()
    with stages.place(tmp_path / "given") as where:
        where.mkdir()
    assert where.exists()


def test_chaos_has_a_network_with_a_liar() -> None:
    """Whom agreement outlives; a valid manifest, with and without jobs."""
    for jobs in (0, 2):
        made = manifest_of(Options(jobs=jobs))
        assert parse(to_toml(made)) == made
        assert len(made.voters) == 4
        assert [spec.role for spec in made.nodes.values()][-1] == "liar"
        assert all(spec.runs_models is bool(jobs) for spec in made.nodes.values())


def test_kinds_of_chaos_are_drawn_as_asked() -> None:
    """All nodes dead at once only if asked for; a word that is none is refused with the nearest."""
    assert Kind.BLACKOUT not in kinds_of(Options())
    assert Kind.BLACKOUT in kinds_of(Options(blackouts=True))
    assert kinds_of(Options(only="kill,flood")) == (Kind.KILL, Kind.FLOOD)
    with pytest.raises(LocalError, match="nearest: 'partition'"):
        kinds_of(Options(only="kill,partion"))


@pytest.mark.parametrize(
    "bad",
    [
        Options(nodes=3),
        Options(minutes=0),
        Options(minutes=1_441),
        Options(rate=-1),
        Options(jobs=9),
        Options(scale=0.0),
        Options(only="partion"),
    ],
)
def test_chaos_that_cannot_be_is_refused(bad: Options) -> None:
    """Before anything is made."""
    with pytest.raises(LocalError):
        check_options(bad)
