"""What is served is what the sources make."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.browser
@pytest.mark.long
def test_the_bundle_is_made_of_the_sources_and_small() -> None:
    """It is built again and compared; types of methods it names are those of today's table."""
    if shutil.which("npm") is None:
        pytest.skip("no npm here: apt-get install npm")
    command = [sys.executable, str(ROOT / "scripts" / "dashboard.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    size = int(done.stdout.split()[1])
    assert size <= 80_000
