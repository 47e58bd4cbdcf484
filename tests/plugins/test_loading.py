"""What can be wrong with a plug-in, and workers that load it again."""

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gcwm_viz.errors import InputError
from gcwm_viz.merging.registry import METHODS, get_method
from gcwm_viz.plugins import loading
from gcwm_viz.plugins.loaded import loaded
from gcwm_viz.plugins.record import entries_for
from gcwm_viz.signals.catalogue import SIGNALS
from tests.torture.small import REPOSITORY

SIGNAL = """
from gcwm_viz.signals.signal import Signal
ONE = Signal(column="{column}", title="One", line="Always one.", of=lambda step: 1.0)
"""
METHOD = """
from gcwm_viz.merging.merge import Merge, MergeMethod
NOTHING = MergeMethod(name="{name}", source="here", summary="nothing", merge=lambda step: Merge.of(step.zeros()))
"""

pytestmark = pytest.mark.usefixtures("no_plugins")


def write(folder: Path, name: str, code: str) -> str:
    file = folder / name
    file.write_text(code)
    return str(file)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("x = 1", "expected a merge method or a signal among its public names, found neither"),
        ("1 / 0", "cannot be loaded (ZeroDivisionError: division by zero)"),
        (SIGNAL.format(column="conflict"), "signal 'conflict' is there already: Layer conflict g"),
        (METHOD.format(name="new") + SIGNAL.format(column="sar"), "signal 'sar' is there already"),
        (METHOD.format(name="ties"), "merge method 'ties' is there already, from arXiv 2306.01708"),
        (SIGNAL.format(column="two").replace(", of=lambda step: 1.0", ""), "signal 'two' has no value"),
    ],
)
def test_what_is_wrong_is_one_sentence(tmp_path: Path, code: str, said: str) -> None:
    methods, signals = dict(METHODS), dict(SIGNALS)
    with pytest.raises(InputError) as caught:
        loading.load(write(tmp_path, "broken.py", code))
    assert said in str(caught.value)
    assert loaded() == ()
    assert (methods, signals) == (METHODS, SIGNALS)


def test_a_missing_file_or_module_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.py: there is no such file"):
        loading.load(str(tmp_path / "none.py"))
    with pytest.raises(InputError, match="plug-in no_such_module cannot be loaded"):
        loading.load("no_such_module")


def test_twice_is_once_and_another_file_of_the_name_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path, "one.py", SIGNAL.format(column="one"))
    assert loading.load(file) is loading.load(file)
    (tmp_path / "other").mkdir()
    with pytest.raises(InputError, match="another one of the same name"):
        loading.load(write(tmp_path / "other", "one.py", SIGNAL.format(column="two")))


def test_a_module_is_known_by_its_package_and_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "my_signals"
    package.mkdir()
    write(package, "__init__.py", "__version__ = '1.2'\nfrom my_signals.own import ONE")
    write(package, "own.py", SIGNAL.format(column="one"))
    monkeypatch.syspath_prepend(tmp_path)
    plugin = loading.load("my_signals")
    assert (plugin.name, plugin.version, plugin.signals) == ("my_signals", "1.2", ("one",))
    for module in ("my_signals", "my_signals.own"):
        monkeypatch.delitem(sys.modules, module)


def test_only_what_has_a_part_is_recorded(tmp_path: Path) -> None:
    loading.load(write(tmp_path, "one.py", SIGNAL.format(column="one")))
    loading.load(write(tmp_path, "method.py", METHOD.format(name="nothing")))
    assert [entry.name for entry in entries_for("gcwm")] == ["one.py"]
    assert [entry.name for entry in entries_for("nothing")] == ["method.py", "one.py"]


def test_installed_packages_declare_entry_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "gcwm_two.py", SIGNAL.format(column="two") + METHOD.format(name="zero"))
    info = tmp_path / "gcwm_two-3.1.dist-info"
    info.mkdir()
    write(info, "METADATA", "Metadata-Version: 2.1\nName: gcwm-two\nVersion: 3.1\n")
    write(
        info,
        "entry_points.txt",
        "[gcwm_viz.signals]\ntwo = gcwm_two:ONE\n[gcwm_viz.methods]\nzero = gcwm_two:NOTHING\n",
    )
    monkeypatch.syspath_prepend(tmp_path)
    loading.load_installed()
    (plugin,) = loaded()
    assert (plugin.name, plugin.version, plugin.methods, plugin.signals) == ("gcwm-two", "3.1", ("zero",), ("two",))
    assert get_method("zero").summary == "nothing"
    loading.load_installed()
    assert loaded() == (plugin,)
    monkeypatch.delitem(sys.modules, "gcwm_two")


WORKER = """
import pickle, sys
from gcwm_viz.errors import InputError
from gcwm_viz.signals.catalogue import SIGNALS
work = pickle.loads(sys.stdin.buffer.read())
print("before", "one" in SIGNALS)
try:
    print(work(3), "one" in SIGNALS)
except InputError as error:
    print(error)
"""


def work_elsewhere(work: Callable[..., Any]) -> str:
    done = subprocess.run(
        [sys.executable, "-c", WORKER], input=pickle.dumps(work), cwd=REPOSITORY, capture_output=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def test_a_spawned_worker_loads_the_same_file_and_no_other(tmp_path: Path) -> None:
    file = write(tmp_path, "one.py", SIGNAL.format(column="one"))
    loading.load(file)
    work = loading.WithPlugins(abs)
    assert work_elsewhere(work) == "before False\n3 True\n"
    write(tmp_path, "one.py", SIGNAL.format(column="one") + "# changed\n")
    assert "plug-in one.py: another version where this worker runs" in work_elsewhere(work)
    (tmp_path / "one.py").unlink()
    assert "one.py: there is no such file" in work_elsewhere(work)
