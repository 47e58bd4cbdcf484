"""Every page in a process that has run no page yet: what it needs it imports itself."""

import json
import subprocess
import sys
from pathlib import Path

from gcwm_viz.ui.frame import PAGES
from tests.factories_runs import write_run
from tests.ui.conftest import REPOSITORY


def test_every_page_can_be_the_first(tmp_path: Path) -> None:
    write_run(tmp_path, "normal")
    words = [sys.executable, "-m", "tests.ui.cold", str(tmp_path)]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == dict.fromkeys(PAGES, "")
