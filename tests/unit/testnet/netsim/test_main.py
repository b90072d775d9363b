"""The command: documents say that they are simulated, exit codes say whether the bar is met."""

import json

import pytest

from prsm.testnet.cli import run
from prsm.testnet.netsim.__main__ import main


def test_main_prints_a_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cold", "--nodes", "30", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["simulated"] is True
    assert (document["nodes"], document["broken"]) == (30, [])
    assert document["delivered"] == 1.0
    assert 0 < document["mesh_ready_ms"] < 20_000


def test_main_with_a_part_off_wants_the_bar_missed(capsys: pytest.CaptureFixture[str]) -> None:
    eclipse = ["eclipse", "--runs", "20"]
    assert main(eclipse) == 0
    assert main([*eclipse, "--without", "guard"]) == 0
    assert "simulated: True" in capsys.readouterr().out
    assert main([*eclipse, "--without", "repair"]) == 1  # has no part in it
    assert main(["cold", "--nodes", "20", "--without", "luck"]) == 2
    assert "no switch 'luck'" in capsys.readouterr().err


def test_command_of_the_testnet_passes_its_arguments_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stopped:
        run(["netsim", "eclipse", "--runs", "10", "--json"])
    assert stopped.value.code == 0
    assert json.loads(capsys.readouterr().out)["runs"] == 10
