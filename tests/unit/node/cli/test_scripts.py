"""The scripts that are installed: ended while they load, they say nothing of Python."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
# As Ctrl-C in the middle of loading what the program is made of.
ENDED = """
import sys

class Ended:
    def find_spec(self, name, path=None, target=None):
        if name == "{ended}":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Ended())
from {module} import {name}
sys.exit({name}())
"""


@pytest.mark.parametrize(
    ("script", "ended"),
    [("prsm", "click"), ("prsm", "prsm.node.cli.failures"), ("prsm-testnet", "click")],
)
def test_script_that_is_ended_while_it_loads_says_no_more_than_a_line(
    script: str, ended: str
) -> None:
    """The second is loaded to say that no word was given."""
    module, _, name = SCRIPTS[script].partition(":")
    program = ENDED.format(module=module, name=name, ended=ended)
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert len(done.stderr.splitlines()) <= 1
