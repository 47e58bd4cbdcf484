"""Time of each page's script, for a run of the lab's size and a generated one of 36 layers and 14 steps."""

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
GOALS_S = {"normal": 0.5, "wide": 2.0}


def measure(repeat: int = 3) -> dict[str, Any]:
    """Seconds of the fastest of ``repeat`` warm script runs of every page that shows one run."""
    from streamlit.testing.v1 import AppTest

    from gcwm_viz.ui.page import PAGES
    from tests.factories_runs import write_run

    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="gcwm-bench-") as scratch:
        sys.argv = ["app.py", "--run-root", scratch]
        os.chdir(REPOSITORY)
        for kind in GOALS_S:
            write_run(Path(scratch), kind)
        for kind, goal in GOALS_S.items():
            seconds = {}
            for page, title in PAGES.items():
                app = AppTest.from_file(str(REPOSITORY / "app.py"), default_timeout=120)
                app.query_params["run"] = kind
                if page != "app.py":
                    app.switch_page(page)
                app.run()
                seconds[title] = min(_seconds(app) for _ in range(repeat))
            result[kind] = {"seconds": seconds, "slowest_s": max(seconds.values()), "goal_s": goal}
    return result


def _seconds(app: Any) -> float:
    begin = time.perf_counter()
    app.run()
    if app.exception:
        raise RuntimeError(f"the page failed: {app.exception[0].value}")
    return time.perf_counter() - begin
