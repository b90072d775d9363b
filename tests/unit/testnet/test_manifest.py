"""Manifests: what is read, every error in a line with the nearest name, written and read again."""

from pathlib import Path

import pytest

from prsm.testnet.faults import Fault, Kind, Lie
from prsm.testnet.generate import generate
from prsm.testnet.manifest import BadManifest, nearest, parse, read, to_toml
from prsm.testnet.proxy import CLEAR, Conditions

FOUR = '[nodes.a]\n[nodes.b]\n[nodes.c]\n[nodes.d]\nregion = "us"\n'
NETWORKS = Path(__file__).parents[3] / "testnet" / "networks"


def errors(text: str) -> tuple[str, ...]:
    with pytest.raises(BadManifest) as caught:
        parse(text)
    return caught.value.lines


def test_least_manifest_is_validators_on_clear_links() -> None:
    """A name and nodes; everything else has a default, and no proxy is needed."""
    found = parse('name = "x"\n' + FOUR)
    assert found.names == ("a", "b", "c", "d")
    assert found.voters == (0, 1, 2, 3)
    assert set(found.base().values()) == {CLEAR}
    assert not found.needs_proxy
    assert found.is_honest


def test_roles_say_who_votes_and_who_works() -> None:
    """And the two keys say otherwise."""
    found = parse(
        'name = "x"\n[nodes.a]\n[nodes.b]\nrole = "full"\n[nodes.c]\nrole = "worker"\n'
        '[nodes.d]\nrole = "liar"\nvotes = true\n[nodes.e]\nmodels = true\n'
    )
    assert found.voters == (0, 3, 4)
    models = [name for name, spec in found.nodes.items() if spec.runs_models]
    assert models == ["c", "d", "e"]


def test_later_link_wins_and_is_good_both_ways() -> None:
    """Any pair, then a pair of regions, then one of nodes."""
    found = parse(
        'name = "x"\n' + FOUR + '[[links]]\nbetween = ["*", "*"]\ndelay_ms = 1\n'
        '[[links]]\nbetween = ["us", "here"]\ndelay_ms = 40\nloss = 0.01\nkbytes_per_s = 9\n'
        '[[links]]\nbetween = ["d", "a"]\ndelay_ms = 7\n'
    )
    base = found.base()
    assert base[0, 1] == Conditions(delay_ms=1)
    assert base[1, 3] == base[3, 1] == Conditions(delay_ms=40, loss=0.01, bytes_per_s=9_000)
    assert base[0, 3] == base[3, 0] == Conditions(delay_ms=7)
    assert found.needs_proxy


def test_fault_has_places_in_the_stead_of_names() -> None:
    """And the proxy is needed for faults of links."""
    found = parse(
        'name = "x"\n' + FOUR + '[[faults]]\nkind = "partition"\ngroups = [["a", "c"], ["b"]]\n'
    )
    assert found.fault(found.faults[0]) == Fault(
        Kind.SPLIT, groups=((0, 2), (1,)), lie=Lie.EQUIVOCATE
    )
    assert found.needs_proxy


def test_every_error_is_one_line_with_the_nearest_name() -> None:
    """All at once: keys of every table, words, types and bounds."""
    assert errors(
        'name = "X!"\nsede = 1\n[load]\ntransfer_per_s = 3\naccounts = 0\n'
        '[nodes.a]\nrole = "validater"\nregoin = "eu"\n[[links]]\ndelay_ms = "50"\n'
        '[[faults]]\nkind = "partion"\n'
    ) == (
        "name: expected `str` matching regex '^[a-z][a-z0-9-]{0,31}$', found 'X!'",
        "no key 'sede'; nearest: 'seed'",
        "load: no key 'transfer_per_s'; nearest: 'transfers_per_s'",
        "load.accounts: expected `int` >= 1, found 0",
        "nodes.a.role is 'validater'; nearest: 'validator'",
        "nodes.a: no key 'regoin'; nearest: 'region'",
        "links[1].delay_ms: expected `int`, got `str`, found '50'",
        "links[1]: between is missing",
        "faults[1].kind is 'partion'; nearest: 'partition'",
    )


def test_what_does_not_belong_together_is_said() -> None:
    """Names nobody has, keys that do nothing, too many liars, jobs nobody can do."""
    assert errors(
        'name = "x"\n[load]\njobs = 1\n[nodes.a]\n[nodes.b]\nlies = "silent"\n[nodes.c]\n'
        '[[links]]\nbetween = ["a", "eu"]\n[[faults]]\nkind = "kill"\nnodes = ["aa"]\nloss = 0.5\n'
        '[[faults]]\nkind = "kill"\n[[faults]]\nkind = "partition"\n'
        '[[faults]]\nkind = "partition"\ngroups = [["a"], ["a", "b"]]\n'
    ) == (
        "nodes: 1 of 3 validators lie, agreement outlives 0",
        "load.jobs: 0 nodes run models; who asks and three that work: 4",
        "links[1].between: no 'eu'; a, b, c, here, *",
        "faults[1]: no 'aa'; nearest: 'a'",
        "faults[1]: loss does nothing on kill, only on delay, loss",
        "faults[2]: kill needs nodes",
        "faults[3]: partition needs groups",
        "faults[4]: a is in two groups",
    )


def test_lie_of_who_does_not_vote_and_nobody_who_votes() -> None:
    """A follower has nothing to lie about in agreement."""
    said = errors('name = "x"\n[nodes.a]\nrole = "full"\nlies = "silent"\n')
    assert "nodes: nobody votes; give one the role validator" in said
    assert "nodes.a: it does not vote, so it cannot lie in agreement" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name = ", "no TOML"),
        ('name = "x"', "nodes is missing"),
        ('name = "x"\nnodes = 3', "nodes is no table"),
        ('name = "x"\n[nodes]\na = 3', "nodes.a is no table"),
        ('name = "x"\n[nodes.a]\n[links]\nx = 1', "links is written as"),
        ('name = "x"\n[nodes.A]', "nodes.A: expected `str` matching"),
        ('name = "x"\n[nodes]', "nodes: expected `object` of length >= 1"),
    ],
)
def test_forms_that_are_none(text: str, said: str) -> None:
    """Still one line each."""
    assert any(said.rstrip(".") in line for line in errors(text)), errors(text)


def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    """Absent, or no text."""
    with pytest.raises(BadManifest, match="cannot be read"):
        read(tmp_path / "absent.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(BadManifest, match="no text"):
        read(tmp_path / "bytes.toml")


def test_network_files_are_valid_and_survive_writing() -> None:
    """Each file of testnet/networks, read, written, read again."""
    paths = sorted(NETWORKS.glob("*.toml"))
    assert {path.stem for path in paths} >= {"simple", "faulty", "wan", "partitions"}
    for path in paths:
        found = read(path)
        assert parse(to_toml(found)) == found


def test_generated_manifests_are_valid_and_repeatable() -> None:
    """Two hundred seeds: each parses as it was drawn; all kinds of faults and lies come up."""
    drawn = [generate(seed) for seed in range(200)]
    assert all(parse(to_toml(each)) == each for each in drawn)
    assert drawn == [generate(seed) for seed in range(200)]
    kinds = {fault.kind for each in drawn for fault in each.faults}
    assert kinds == set(Kind) - {Kind.FLOOD, Kind.BYZANTINE}
    assert {spec.lies for each in drawn for spec in each.nodes.values()} == {None, *Lie}


def test_nearest_says_nothing_when_nothing_is_near() -> None:
    """A guess that is none would mislead."""
    assert nearest("zzzz", ["alpha", "beta"]) == ""
    assert nearest("alpa", ["alpha", "beta"]) == "; nearest: 'alpha'"
