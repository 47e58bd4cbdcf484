"""The command that runs tests under other kernels: says what ran, and fails with the tests that fail there alone."""

import os
import subprocess
import sys
from pathlib import Path


def test_a_failure_under_one_setting_alone_is_reported(tmp_path: Path) -> None:
    test = tmp_path / "test_threads.py"
    test.write_text("import torch\n\ndef test_one():\n    assert torch.get_num_threads() == 1\n")
    arguments = [sys.executable, "-m", "tests.kernels", "own-1", "own-2", "--tests", str(test)]
    # As if the tests' own conftest applied in that folder.
    (tmp_path / "conftest.py").write_text("from tests.conftest import *\n")
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    assert done.returncode == 1
    assert lines[0].startswith("own-1: 1 passed")
    assert "OpenBLAS" in lines[0]
    assert "threads 1" in lines[0]
    assert lines[1].startswith("own-2: 1 failed")
    assert "threads 2" in lines[1]
    assert any("FAILED" in line and "test_one" in line for line in lines[2:])


def test_unknown_settings_are_named() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.kernels", "neon-1"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "found neon-1" in done.stderr
