"""Generated run folders with synthetic tables: normal, empty, one update, NaN, wide (36 layers × 14 steps).

Values follow plausible shapes (conflict grows with step and depth) and are seeded; nothing here is computed by the
method, so a page or figure test cannot pass by agreeing with the code under test.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.run_file import InputEntry, RunFile
from gcwm_viz.continual.store import RunStore
from gcwm_viz.runs.tables import LATER
from gcwm_viz.updates.matrices import MatrixKey

FAMILIES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
KINDS = ("normal", "empty", "one", "nan", "wide")
TASKS = ("past", "capital", "index", "symbol", "close", "eval")
NASTY = "<b>bold</b> & <a href='x'>$y$</a> *s*"
"""A name that would show as markup wherever it is not escaped."""

SIGNALS = (
    "active_conflict",
    "state_conflict",
    "state_gap",
    "global_active",
    "global_with_state",
    "global_gap",
    "incoming_conflict",
    "sar",
    "overcount",
    "leading_count",
    "update_norm",
    "merged_norm",
    "increment_norm",
    "state_norm",
)


def make_tables(kind: str = "normal", seed: int = 0) -> dict[str, pd.DataFrame]:
    """The documented tables of a run of ``kind``; an empty run has the columns and no rows."""
    from tests.factories_attribution import make_attribution, make_interpolation  # which take names from here
    from tests.factories_calibration import make_calibration

    rng = np.random.default_rng(seed)
    layers, names = {
        "normal": (4, list(TASKS)),
        "empty": (4, list(TASKS)),
        "one": (4, list(TASKS[:1])),
        "nan": (4, [*TASKS[:2], NASTY]),
        "wide": (36, [f"task{i:02d}" for i in range(14)]),
    }[kind]
    matrices = _matrices(rng, layers, names)
    tables = {
        "matrices": matrices,
        "pairs": _pairs(rng, matrices, names),
        "spectra": _spectra(rng, matrices, names),
        "barycenter": _barycenter(rng, matrices),
        "solver": _solver(matrices),
        "steps": _steps(matrices),
        "updates": _updates(names, len(matrices["matrix"].unique())),
        "scores": _scores(rng, names),
        "representation": _representation(rng, names, layers),
        "leave_one_out": _leave_one_out(names),
        "attribution": make_attribution(layers=layers, steps=len(names), tasks=names),
        "interpolation": make_interpolation(len(names), tasks=names),
        **make_calibration(matrices, names),
    }
    if kind == "nan":
        _punch_holes(tables)
    if kind == "empty":
        tables = {name: table.iloc[:0] for name, table in tables.items()}
    return tables


_shared_tables = cache(make_tables)
"""The same tables, for those who only read them."""


@cache
def _parquet_files(kind: str, seed: int) -> dict[Path, bytes]:
    """What a run of ``kind`` holds in its folders of tables, by place: encoded once, written for many tests."""
    place = {table: later for later, tables in LATER.items() for table in tables}
    return {
        Path(place.get(name, ""), "tables", f"{name}.parquet"): table.to_parquet()
        for name, table in _shared_tables(kind, seed).items()
    }


def write_run(root: Path, kind: str = "normal", name: str | None = None, seed: int = 0, method: str = "gcwm") -> Path:
    """Write a run folder of ``kind`` below ``root`` and return its path."""
    run = root / (name or kind)
    shapes = _shared_tables("normal" if kind == "empty" else kind, seed)
    cells = shapes["matrices"].drop_duplicates("matrix")
    keys = [
        MatrixKey(name=name, layer=int(layer), family=family, shape=(128, 128))
        for name, layer, family in zip(cells["matrix"], cells["layer"], cells["family"], strict=True)
    ]
    file = RunFile(
        base=InputEntry(where="models/base", fingerprint="0" * 64),
        updates=tuple(
            InputEntry(name=name, where=f"models/updates/{index}", kind="delta", fingerprint=f"{index:064x}")
            for index, name in enumerate(shapes["updates"]["update"])
        ),
        settings=RunSettings.preset_with("scale-free", {}, method),
        matrices=tuple(keys),
    )
    store = RunStore.create(run, file)
    for place, content in _parquet_files(kind, seed).items():
        (run / place).parent.mkdir(parents=True, exist_ok=True)
        (run / place).write_bytes(content)
    store.log("start", done=0, total=len(keys), label="", seconds=0.0)
    if kind != "empty":
        store.log("complete", done=len(keys), total=len(keys), label="", seconds=9.0)
    return run


def _matrices(rng: np.random.Generator, layers: int, names: list[str]) -> pd.DataFrame:
    frames = []
    for step, update in enumerate(names, start=1):
        layer = np.repeat(np.arange(layers), len(FAMILIES))
        family = np.tile(FAMILIES, layers)
        n = len(layer)
        lift = (
            0.1 * (family == "down_proj") + 0.15 * layer / max(layers - 1, 1) + 0.25 * (step - 1) / max(len(names), 6)
        )
        alone = step == 1
        active = np.full(n, np.nan) if alone else np.clip(0.15 + lift + rng.normal(0, 0.03, n), 0.01, 0.99)
        state = np.clip(0.2 + lift * 0.8 + rng.normal(0, 0.03, n), 0.01, 0.99)
        incoming = np.full(n, np.nan) if alone else np.clip(0.3 + lift + rng.normal(0, 0.04, n), 0.01, 0.99)
        conflict = np.zeros(n) if alone else np.clip(active * 0.9, 0, 1)
        frame = pd.DataFrame(
            {
                "step": step,
                "update": update,
                "matrix": [matrix_name(int(at), name) for at, name in zip(layer, family, strict=True)],
                "layer": layer,
                "family": family,
                "d_out": 128,
                "d_in": 128,
                "active": step,
                "conflict": conflict,
                "alpha": 0.15 + 0.8 / (1 + np.exp(-10 * (conflict - 0.12))),
                "mode": "blend",
                "active_conflict": active,
                "state_conflict": state,
                "state_gap": state - active,
                "global_active": active * 0.95,
                "global_with_state": active * 0.95 + rng.normal(0, 0.05, n),
                "incoming_conflict": incoming,
                "sar": np.full(n, np.nan) if alone else rng.uniform(0.3, 0.7, n),
                "overcount": np.linspace(1, 1 + step / 2, n),
                "leading_count": np.linspace(0.5, step, n),
                "update_norm": rng.uniform(0.5, 2, n),
                "merged_norm": rng.uniform(0.5, 2, n),
                "increment_norm": rng.uniform(0.2, 1, n),
                "state_norm": rng.uniform(1, 3, n),
                "displacement": rng.uniform(0.01, 0.2, n),
                "center_mismatch": rng.uniform(0, 0.2, n),
                "union_rank": 4 * step,
                "lam": 1e-3,
                "lambda_share": rng.uniform(0.01, 0.2, n),
                "barycenter_iterations": 20,
                "barycenter_residual": 1e-10,
                "barycenter_converged": True,
                "plain_shift": rng.uniform(0.05, 0.4, n),
                "geo_shift": rng.uniform(0.001, 0.02, n),
                "plain_objective": 0.4,
                "geo_objective": 0.6,
                "plain_minimum": 0.25,
                "geo_minimum": 0.1,
                "solver_iterations": 1,
                "solver_residual": 1e-9,
                "solver_converged": True,
                "seconds": 0.01,
                "reason": "one active update: no pair, and no state before step 1" if alone else "",
            }
        )
        frame["global_gap"] = frame["global_with_state"] - frame["global_active"]
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def matrix_name(layer: int, family: str) -> str:
    part = "self_attn" if family[0] in "qkv" or family == "o_proj" else "mlp"
    return f"model.layers.{layer}.{part}.{family}.weight"


def _cells(matrices: pd.DataFrame) -> list[tuple[int, str, int, str]]:
    columns = (matrices["step"], matrices["matrix"], matrices["layer"], matrices["family"])
    return [tuple(cell) for cell in zip(*columns, strict=True)]


def _pairs(rng: np.random.Generator, matrices: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    rows = []
    for cell in _cells(matrices):
        active = names[: cell[0]]
        rows += [(*cell, "active", a, b) for i, a in enumerate(active) for b in active[i + 1 :]]
        rows += [(*cell, "state", "state", a) for a in active]
        if cell[0] > 1:
            rows.append((*cell, "incoming", "state", active[-1]))
    pairs = pd.DataFrame(rows, columns=["step", "matrix", "layer", "family", "kind", "i", "j"])
    pairs["conflict"] = rng.uniform(0.1, 0.8, len(pairs))
    pairs["gate_conflict"] = pairs["conflict"].where(pairs["kind"] == "active") * 0.9
    pairs["sar_ij"], pairs["sar_ji"] = rng.uniform(0, 1, len(pairs)), rng.uniform(0, 1, len(pairs))
    angles = iter(np.sort(rng.uniform(5, 90, (len(pairs), 4)), axis=1).round(4).tolist())
    pairs["principal_angles"] = [next(angles) if kind == "active" else [] for kind in pairs["kind"]]
    pairs["reason"] = ""
    return pairs


def _spectra(rng: np.random.Generator, matrices: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    rows = []
    for step, *cell in _cells(matrices):
        sources = [(name, "update") for name in names[:step]]
        sources += [("barycenter", "barycenter"), ("mean", "mean"), ("state", "state")]
        width = 4 * step
        for source, kind in sources:
            kept = 4 if kind == "update" else width
            values = np.sort(np.exp(rng.normal(-2, 2, kept)))[::-1] + 1e-3
            rows.append((step, *cell, source, kind, values.tolist(), width, 1e-3))
    columns = ["step", "matrix", "layer", "family", "source", "kind", "eigenvalues", "union_rank", "lam"]
    return pd.DataFrame(rows, columns=columns)


def _barycenter(rng: np.random.Generator, matrices: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for cell in _cells(matrices):
        ends = [0.0] if cell[0] == 1 else np.exp(-2.0 * np.arange(12) + rng.normal(0, 0.3, 12)).tolist()
        rows += [(*cell, iteration, residual) for iteration, residual in enumerate(ends)]
    return pd.DataFrame(rows, columns=["step", "matrix", "layer", "family", "iteration", "residual"])


def _solver(matrices: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for cell in _cells(matrices):
        for branch, end, way in (("plain", 0.4, 0.3), ("geo", 0.97, 0.01)):
            rows += [(*cell, branch, k, 5.0 * end ** (k / 10), way * k / 10, way * k / 20) for k in range(0, 11, 5)]
    columns = ["step", "matrix", "layer", "family", "branch", "iteration", "objective", "shift", "relative_shift"]
    return pd.DataFrame(rows, columns=columns)


def _steps(matrices: pd.DataFrame) -> pd.DataFrame:
    groups = matrices.groupby("step")
    steps = groups[[*SIGNALS, "conflict", "alpha", "displacement"]].mean()
    steps.insert(0, "update", groups["update"].first())
    steps["eta"] = 1.0
    for name in ("conflict", "alpha"):
        steps[f"{name}_min"], steps[f"{name}_max"] = groups[name].min(), groups[name].max()
    return steps.reset_index()


def _updates(names: list[str], count: int) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "index": range(1, len(names) + 1),
            "update": names,
            "path": [f"models/updates/{n}" for n in range(len(names))],
            "kind": "delta",
            "norm": 5.0,
            "target_norm": 5.0,
            "outside_share": 0.0,
            "matrices": count,
            "rounding": 0.001,
            "note": "",
        }
    )


def _scores(rng: np.random.Generator, names: list[str]) -> pd.DataFrame:
    rows = []
    models = [("base", 0, "")] + [("step", t, n) for t, n in enumerate(names, start=1)]
    models += [("expert", i, n) for i, n in enumerate(names, start=1)]
    for model, step, update in models:
        for place, task in enumerate(names, start=1):
            if model == "expert":
                em = 0.95 if task == update else 0.3
            else:
                em = 0.25 if step < place else max(0.35, 0.95 - 0.08 * (step - place))
            for split in ("dev", "test"):
                value = float(np.clip(em + rng.normal(0, 0.02), 0, 1))
                rows.append((model, step, update, task, split, "em", value, 0.02, 200))
                rows.append((model, step, update, task, split, "nll", 3 * (1 - value) + 0.05, 0.05, 200))
    return pd.DataFrame(rows, columns=["model", "step", "update", "task", "split", "metric", "value", "se", "n"])


def _representation(rng: np.random.Generator, names: list[str], layers: int) -> pd.DataFrame:
    rows = []
    models = [("base", 0, "")] + [("step", t, n) for t, n in enumerate(names, start=1)]
    models += [("expert", i, n) for i, n in enumerate(names, start=1)]
    for model, step, update in models:
        for dataset in ("first letter", "kind of prompt"):
            for layer in range(layers + 1):
                accuracy = float(np.clip(0.4 + 0.5 * layer / layers + rng.normal(0, 0.02), 0, 1))
                rows.append((model, step, update, dataset, layer, accuracy, 0.02, 300, 0.25))
    return pd.DataFrame(rows, columns=["model", "step", "update", "dataset", "layer", "accuracy", "se", "n", "chance"])


def _leave_one_out(names: list[str]) -> pd.DataFrame:
    """Every update costs the next task 0.2 and the others nothing; without it its own task falls to 0.25."""
    rng = np.random.default_rng(7)
    rows = []
    for place, left_out in enumerate(names if len(names) > 1 else []):
        for at, task in enumerate(names):
            change = -0.5 if at == place else 0.2 if at == (place + 1) % len(names) else rng.normal(0, 0.005)
            for split in ("dev", "test"):
                rows.append((left_out, task, split, "em", 0.7 + change, 0.02, 0.7, 0.02, change, 0.015, 200))
                rows.append((left_out, task, split, "nll", 1 - change, 0.05, 1.0, 0.05, -change, 0.03, 200))
    columns = ["left_out", "task", "split", "metric", "value", "se", "full_value", "full_se"]
    return pd.DataFrame(rows, columns=[*columns, "difference", "difference_se", "n"])


def _punch_holes(tables: dict[str, pd.DataFrame]) -> None:
    """A frozen layer (nothing defined), one family that one update does not touch, unmeasured scores."""
    matrices = tables["matrices"]
    signals = [*SIGNALS, "conflict", "alpha", "displacement", "plain_shift", "geo_shift", "lambda_share"]
    frozen = matrices["layer"] == 1
    matrices.loc[frozen, signals] = np.nan
    matrices.loc[frozen, "mode"] = "absent"
    matrices.loc[frozen, "reason"] = "no update touches this matrix"
    single = (matrices["family"] == "v_proj") & ~frozen
    matrices.loc[single, ["active_conflict", "state_gap", "global_active", "global_gap", "conflict", "sar"]] = np.nan
    matrices.loc[single, "reason"] = "one active update: no pair"
    for name in ("spectra", "barycenter", "solver"):
        tables[name] = tables[name][tables[name]["layer"] != 1].reset_index(drop=True)
    pairs = tables["pairs"]
    pairs.loc[pairs["layer"] == 1, ["conflict", "gate_conflict", "sar_ij", "sar_ji"]] = np.nan
    tables["steps"] = _steps(matrices)
    scores = tables["scores"]
    scores.loc[(scores["step"] == 2) & (scores["model"] == "step"), ["value", "se"]] = np.nan
    tables["representation"].loc[tables["representation"]["layer"] == 2, "accuracy"] = np.nan
    attribution = tables["attribution"]
    attribution.loc[(attribution["layer"] == 1) & (attribution["task"] == TASKS[0]), "value"] = np.nan
    left_out = tables["leave_one_out"]
    left_out.loc[left_out["task"] == "capital", ["value", "se", "difference", "difference_se"]] = np.nan
    tables["leave_one_out"] = left_out[left_out["left_out"] != NASTY].reset_index(drop=True)
