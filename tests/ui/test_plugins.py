"""Plug-ins of the app: loaded before a page draws, and passed on to the jobs that it starts."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from gcwm_viz.continual.plan_file import RunPlan
from gcwm_viz.jobs import jobs
from gcwm_viz.plugins.loaded import loaded
from gcwm_viz.signals.catalogue import SIGNALS
from gcwm_viz.ui import plan_check, start
from tests.continual.inputs import write_base, write_updates
from tests.plugins.conftest import no_plugins  # noqa: F401
from tests.plugins.test_loading import METHOD, SIGNAL, write
from tests.ui.test_pages import words

PAGE = "pages/0_Start.py"
OpenPage = Callable[..., AppTest]

pytestmark = pytest.mark.usefixtures("no_plugins")


def wait_for(root: Path, name: str) -> None:
    until = time.monotonic() + 120
    while jobs.look(root, name).status == "running" and time.monotonic() < until:
        time.sleep(0.2)
    job = jobs.look(root, name)
    assert job.status == "finished", job.message


def test_a_plug_in_is_loaded_and_given_to_check_run_and_resume(open_page: OpenPage, tmp_path: Path) -> None:
    file = write(tmp_path, "both.py", SIGNAL.format(column="one") + METHOD.format(name="nothing"))
    root = tmp_path / "runs"
    app = open_page(PAGE, root=root, options=["--plugin", file])
    assert not app.exception
    assert "nothing: nothing" in app.selectbox(key="start-method").options
    assert "one" in SIGNALS
    assert jobs.command(["resume", "x"])[3:] == ["resume", "x", "--plugin", file]

    plan = RunPlan(
        base=write_base(tmp_path / "base"), updates=tuple(write_updates(tmp_path / "updates", "ab")), method="nothing"
    )
    assert plan_check.run_check(plan)["updates"][0]["matrices"] == 8
    assert start.begin(root, "first", plan)
    wait_for(root, "first")
    assert json.loads((root / "first" / "run.json").read_text())["plugins"][0]["name"] == "both.py"
    assert jobs.start(root, "first", ["resume", str(root / "first")])
    wait_for(root, "first")


def test_a_plug_in_that_cannot_be_loaded_ends_every_page_with_its_sentence(open_page: OpenPage, tmp_path: Path) -> None:
    """The same one at the second page, although the method of the file is registered by then."""
    code = METHOD.format(name="nothing") + SIGNAL.format(column="conflict")
    app = open_page(PAGE, options=["--plugin", write(tmp_path, "broken.py", code)])
    for page in (PAGE, "pages/1_Conflict.py"):
        app.switch_page(page).run()
        assert [error.value for error in app.error] == ["This page cannot go on:"]
        assert "signal 'conflict' is there already" in words(app)
    assert loaded() == ()
