"""Every script beside this file gives, word for word, the output written in it.

`python -m prsm.testnet.sim.scenario --rewrite tests/scenarios/*.txt` writes what the code does
now; the difference is what a review reads.
"""

from pathlib import Path

import pytest

from prsm.testnet.sim.scenario import main, run_script

SCRIPTS = sorted(Path(__file__).parent.glob("*.txt"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_scenario_gives_its_written_output(path: Path) -> None:
    text = path.read_text()
    assert run_script(text) == text


def test_every_expected_scenario_is_there() -> None:
    assert len(SCRIPTS) >= 9


def test_main_tells_a_changed_script_and_rewrites_it(tmp_path: Path) -> None:
    path = tmp_path / "changed.txt"
    path.write_text("start 1,1,1,1\nshow\n----\nnonsense\n")
    assert main([str(path)]) == 1
    assert main([str(path), "--rewrite"]) == 0
    assert main([str(path)]) == 0
    assert "0: at 1/0 waiting, tip 0, low 0" in path.read_text()
