"""run.json as a value: what is read is what was written, also by another version; what is wrong is named."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gcwm_viz.checkpoints.atomic import write_json
from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.run_file import InputEntry, ProbeEntry, RunFile
from gcwm_viz.errors import InputError
from gcwm_viz.runs.inputs import Inputs
from gcwm_viz.runs.run import create_run
from tests.continual.inputs import write_base, write_updates


@pytest.fixture
def run(tmp_path: Path) -> Path:
    inputs = Inputs(base=write_base(tmp_path / "base"), updates=write_updates(tmp_path / "updates", "ab"))
    return create_run(inputs, tmp_path / "run", RunSettings()).path


def change(run: Path, **entries: Any) -> None:
    values = json.loads((run / "run.json").read_text()) | entries
    write_json(run / "run.json", {name: value for name, value in values.items() if value is not ...})


def test_a_round_trip_gives_the_same_bytes(run: Path) -> None:
    change(run, later={"a": [1]}, base={"path": "b", "fingerprint": "f", "revision": "main"})
    before = (run / "run.json").read_bytes()
    write_json(run / "run.json", RunFile.read(run).to_json())
    assert (run / "run.json").read_bytes() == before


def test_entries_stand_in_their_order(run: Path) -> None:
    text = (run / "run.json").read_text()
    assert list(json.loads(text)) == [
        *("format", "schema", "name", "base", "updates", "states"),
        *("probes", "probes_fingerprint", "probe_dtype", "probe_memory"),
        *("matrices", "settings", "notes", "versions"),
    ]
    assert [list(entry) for entry in json.loads(text)["updates"]] == [["name", "path", "kind", "fingerprint"]] * 2


def test_a_run_of_an_earlier_version_opens(run: Path) -> None:
    whole = RunFile.read(run)
    described = ("name", "states", "probes", "probes_fingerprint", "probe_dtype", "probe_memory", "notes", "versions")
    change(run, **dict.fromkeys(described, ...))
    file = RunFile.read(run)
    assert file == replace(whole, name=None, notes=(), versions={})
    assert file.probes == ProbeEntry()


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ({"base": ...}, "base, expected an object"),
        ({"base": {"path": "b"}}, "base.fingerprint, expected printable text"),
        ({"updates": [{"name": "a", "path": "a\n", "fingerprint": "f"}]}, r"updates[0].path, expected printable text"),
        ({"updates": [{"name": "a", "path": "a", "fingerprint": "f"}] * 2}, "updates, expected a name only once"),
        ({"states": [{"name": "s", "path": "s", "fingerprint": "f"}]}, "states, expected none or one an update"),
        ({"probes": 3}, "probes, expected text or null"),
        ({"probe_dtype": "int8"}, "probe_dtype, expected float32 or bfloat16 or float16"),
        ({"probe_memory": -1}, "probe_memory, expected a number of bytes"),
        ({"settings": {"method": "gcwm", "preset": "paper"}}, "settings, KeyError('gcwm')"),
        ({"notes": "n"}, "notes, expected a list of texts"),
        ({"versions": [1]}, "versions, expected texts by name"),
    ],
)
def test_what_is_wrong_is_named(run: Path, entries: dict[str, Any], says: str) -> None:
    change(run, **entries)
    with pytest.raises(InputError) as caught:
        RunFile.read(run)
    assert str(caught.value) == f"{run / 'run.json'} lacks or garbles an entry: {says}"


def test_a_url_stays_a_url_and_needs_no_driver_to_be_looked_at(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "upath", None)
    change(run, base={"path": "s3://bucket//models/base", "fingerprint": "f"})
    base = RunFile.read(run).base
    assert (base.where, base.folder) == ("s3://bucket//models/base", "base")
    with pytest.raises(InputError, match="the extra `remote`"):
        _ = base.path


def test_a_url_becomes_a_location_of_its_file_system() -> None:
    pytest.importorskip("upath", reason="universal-pathlib is not installed (the extra `remote`)")
    assert str(InputEntry(where="memory://m//a", fingerprint="f").path) == "memory://m//a"
    assert str(ProbeEntry(where="memory://m/probes").path / "dev") == "memory://m/probes/dev"
