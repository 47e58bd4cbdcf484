"""A study's folder: whose it is, one process at a time, and what a killed beginning leaves."""

import json
from pathlib import Path
from typing import Any

import pytest

from gcwm_viz.continual.folder import WorkCancelledError, WorkFolder
from gcwm_viz.errors import InputError
from gcwm_viz.runs.folder import ResultFolder

ABOUT = {"format": "f", "updates": [["a", "1"]], "orders": (1, 2)}


def folder(path: Path, *more: Any) -> ResultFolder:
    return ResultFolder(path, "study.json", "a study of", *more)


def test_it_is_about_one_thing(tmp_path: Path) -> None:
    out = tmp_path / "a" / "out"
    with folder(out).work(ABOUT) as inside:
        inside.log("complete")
    assert json.loads((out / "study.json").read_text()) == {**ABOUT, "orders": [1, 2]}
    assert WorkFolder(out).status() == "complete"
    written = (out / "study.json").stat().st_mtime_ns
    with folder(out).work(ABOUT):
        pass
    assert (out / "study.json").stat().st_mtime_ns == written
    with pytest.raises(InputError, match="holds a study of another format: 'f', not 'g'; use another output"):
        folder(out).work({**ABOUT, "format": "g"}).__enter__()
    with pytest.raises(InputError, match="another updates; use"):
        folder(out).work({**ABOUT, "updates": []}).__enter__()
    (out / "study.json").write_text("{")
    with pytest.raises(InputError, match="is not valid JSON"):
        folder(out).work(ABOUT).__enter__()


def test_entries_that_may_grow_are_replaced(tmp_path: Path) -> None:
    for orders in ([1], [1, 2]):
        with folder(tmp_path).work({"format": "f", "orders": orders}, same=("format",)):
            pass
    assert json.loads((tmp_path / "study.json").read_text()) == {"format": "f", "orders": [1, 2]}
    with pytest.raises(InputError, match="another format"):
        folder(tmp_path).work({"format": "g", "orders": [1]}, same=("format",)).__enter__()


def test_a_full_folder_is_left_alone_and_a_killed_beginning_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file"):
        with pytest.raises(InputError, match="already exists and is not empty"):
            folder(path).work(ABOUT).__enter__()
    assert [item.name for item in tmp_path.iterdir()] == ["file"]
    begun = tmp_path / "begun"
    (begun / "trained").mkdir(parents=True)
    for name in ("lock", ".study.json.partial"):
        (begun / name).touch()
    with folder(begun, None, ("trained",)).work(ABOUT):
        pass
    assert (begun / "study.json").is_file()


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with folder(tmp_path).work(ABOUT), pytest.raises(InputError, match=f"^{tmp_path} is being written by process"):
        folder(tmp_path).work(ABOUT).__enter__()


def test_progress_is_handed_on_and_a_stop_ends_the_work(tmp_path: Path) -> None:
    seen = []
    with folder(tmp_path, lambda *event: seen.append(event)).work(ABOUT) as inside:
        inside.tell("points", 1, 2, "one", event="point")
        inside.tell("matrices", 1, 9, "quiet")
        inside.request_cancel()
        with pytest.raises(WorkCancelledError, match=f"^{tmp_path} was cancelled; the same command goes on with it"):
            inside.tell("points", 2, 2, "two", event="point")
    assert seen == [("points", 1, 2, "one"), ("matrices", 1, 9, "quiet"), ("points", 2, 2, "two")]
    lines = [(line["event"], line.get("label")) for line in inside.journal()]
    assert lines == [("start", None), ("point", "one"), ("point", "two")]
    with folder(tmp_path).work(ABOUT) as again:  # an old request does not end new work
        again.tell("points", 1, 2, "one")


def test_the_journal_says_why_it_stopped(tmp_path: Path) -> None:
    with pytest.raises(InputError), folder(tmp_path).work(ABOUT):
        raise InputError("no luck")
    assert WorkFolder(tmp_path).journal()[-1]["message"] == "no luck"
