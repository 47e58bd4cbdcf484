"""run.json: what a run is about. Read with the distrust that any file from elsewhere deserves."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from gcwm_viz.checkpoints.header import read_json_object
from gcwm_viz.errors import InputError
from gcwm_viz.updates.matrices import MatrixKey

SCHEMA = 1
FORMAT = "gcwm_viz.run"
MAX_UPDATES = 10_000
MAX_MATRICES = 200_000
PROBE_DTYPES = ("float32", "bfloat16", "float16")
"""Precisions in which a model can be probed, the default first."""


def read_run_file(run: Path) -> dict[str, Any]:
    """The content of RUN/run.json, every entry that the package relies on of its type.

    Raises :class:`InputError` for a folder that is not a run, another schema, and an entry that is missing or wrong.
    """
    file = run / "run.json"
    if not file.is_file():
        raise InputError(f"{run} is not a run folder: it has no run.json")
    info = read_json_object(file, "run.json")
    if info.get("format") != FORMAT:
        raise InputError(f"{file} does not describe a run: expected format {FORMAT!r}")
    if info.get("schema") != SCHEMA:
        raise InputError(f"{file} has schema {str(info.get('schema'))[:50]}; this version reads schema {SCHEMA}")
    try:
        _check(info)
    except _WrongError as error:
        raise InputError(f"{file} lacks or garbles an entry: {error}") from None
    return info


def matrix_keys(info: dict[str, Any]) -> list[MatrixKey]:
    """The run's matrices in model order."""
    return [MatrixKey(**entry | {"shape": tuple(entry["shape"])}) for entry in info["matrices"]]


class _WrongError(Exception):
    pass


def _check(info: dict[str, Any]) -> None:
    # What only describes (name, notes, versions) is optional; what is computed with is not.
    _sequence(info, "updates", MAX_UPDATES)
    _sequence(info, "matrices", MAX_MATRICES)
    for index, entry in enumerate(info["updates"]):
        _texts(entry, f"updates[{index}]", ("name",))
    names = [entry["name"] for entry in info["updates"]]
    _expect(len(set(names)) == len(names), "updates", "a name only once")
    _texts(info.get("settings"), "settings", ("method", "preset"))
    for index, entry in enumerate(info["matrices"]):
        _matrix(entry, f"matrices[{index}]")


def check_inputs(info: dict[str, Any], run: Path) -> None:
    """Raises :class:`InputError` when run.json does not say where each input lies and what it was."""
    try:
        _texts(info.get("base"), "base", ("path", "fingerprint"))
        _sequence(info, "states", MAX_UPDATES)
        for kind in ("updates", "states"):
            for index, entry in enumerate(info[kind]):
                _texts(entry, f"{kind}[{index}]", ("name", "path", "fingerprint"))
        states = len(info["states"])
        _expect(states in (0, len(info["updates"])), "states", "none or one an update")
        _expect("probes" in info, "probes", "text or null")
        for name in ("probes", "probes_fingerprint"):
            _expect(info.get(name) is None or _is_text(info[name]), name, "text or null")
        # Runs of an earlier version do not have these two.
        _expect(info.get("probe_dtype", PROBE_DTYPES[0]) in PROBE_DTYPES, "probe_dtype", " or ".join(PROBE_DTYPES))
        _expect(_is_count(info.get("probe_memory") or 0, 0, 2**62), "probe_memory", "a number of bytes")
    except _WrongError as error:
        raise InputError(f"{run / 'run.json'} lacks or garbles an entry: {error}") from None


def _matrix(entry: Any, place: str) -> None:
    wanted = {field.name for field in fields(MatrixKey)}
    _expect(isinstance(entry, dict) and wanted - {"transposed"} <= entry.keys() <= wanted, place, sorted(wanted))
    _texts(entry, place, ("name", "family"))
    _expect(_is_count(entry["layer"], 0), f"{place}.layer", "a layer number")
    shape = entry["shape"]
    _expect(
        isinstance(shape, list) and len(shape) == 2 and all(_is_count(side, 1) for side in shape),
        f"{place}.shape",
        "two sides",
    )
    _expect(isinstance(entry.get("transposed", False), bool), f"{place}.transposed", "true or false")


def _sequence(info: dict[str, Any], name: str, limit: int) -> None:
    _expect(isinstance(info.get(name), list) and len(info[name]) <= limit, name, f"a list of at most {limit}")


def _texts(entry: Any, place: str, names: tuple[str, ...]) -> None:
    _expect(isinstance(entry, dict), place, "an object")
    for name in names:
        _expect(_is_text(entry.get(name)), f"{place}.{name}", "printable text")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 4096 and value.isprintable()


def _is_count(value: Any, least: int, limit: int = 2**31) -> bool:
    return type(value) is int and least <= value < limit


def _expect(true: bool, place: str, wanted: object) -> None:
    if not true:
        raise _WrongError(f"{place}, expected {wanted}")
