"""What the decision benchmark says, in Markdown: the source of the tables in docs/findings.md."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd

from gcwm_viz.decide.benchmark.report import NEW_SEEDS, OTHER_MODEL
from gcwm_viz.studies.lab.summary import markdown


def sections(results: Mapping[str, pd.DataFrame]) -> dict[str, str]:
    """``predictors``, ``forecasts``, ``regrets``, ``verdict-counts`` and ``settled``, by the tables of
    :func:`~gcwm_viz.decide.benchmark.shipped.read_results`."""
    return {
        "predictors": _predictors(results["validation"]),
        "forecasts": _forecasts(results["validation"], results["coverage"]),
        "regrets": _regrets(results["regret"]),
        "verdict-counts": _verdicts(results["verdicts"]),
        "settled": _settled(results["settled"]),
    }


def _predictors(table: pd.DataFrame) -> str:
    """AUC and ρ of every single predictor, by method on new seeds, and on SmolLM2."""
    single = table[~table["predictor"].str.startswith("forecast")]
    wanted = [(method, NEW_SEEDS) for method in table["method"].unique()]
    wanted += [(method, OTHER_MODEL) for method in table["method"].unique()]
    rows: dict[str, dict[str, str]] = {}
    for method, setting in wanted:
        own = single[(single["method"] == method) & (single["setting"] == setting)]
        for row in own.to_dict("records"):
            entry = rows.setdefault(str(row["predictor"]), {"predictor": str(row["predictor"])})
            head = f"{method}, {'lab' if setting == NEW_SEEDS else setting}"
            partial = "" if math.isnan(row["partial"]) else f"; {row['partial']:+.2f}"
            entry[f"{head}: AUC"] = _interval(row, "auc", signed=False)
            entry[f"{head}: ρ; given the norm"] = f"{_number(row['rho'], signed=True)}{partial}"
    return _table(list(rows.values()))


def _forecasts(table: pd.DataFrame, coverage: pd.DataFrame) -> str:
    own = table[table["predictor"].str.startswith("forecast")]
    rows = []
    for row in own.to_dict("records"):
        needs = str(row["predictor"]).removeprefix("forecast, ")
        held = coverage[(coverage["method"] == row["method"]) & (coverage["setting"] == row["setting"])]
        held = held[held["needs"] == needs].iloc[0]
        rows.append(
            {
                "method": str(row["method"]),
                "tested on": str(row["setting"]),
                "forecast from": needs,
                "AUC for harm": _interval(row, "auc", signed=False),
                "ρ with the loss": _interval(row, "rho", signed=True),
                "95 % intervals that held": f"{held['covered']:.0%}".replace("%", " %"),
                "mean error": f"{held['error']:.3f}",
                "updates (harmful)": f"{row['n']:.0f} ({row['harmful']:.0f})",
            }
        )
    return _table(rows)


def _regrets(table: pd.DataFrame) -> str:
    rows: dict[str, dict[str, str]] = {}
    for (method, setting), part in table.groupby(["method", "setting"], sort=False):
        for row in part.to_dict("records"):
            entry = rows.setdefault(str(row["policy"]), {"policy": str(row["policy"])})
            entry.setdefault("merges measured", "all" if row["cost"] < 0 else f"{row['cost']:.0f}")
            entry[f"{method}, {setting}"] = f"{_interval(row, 'regret', signed=False, digits=3)}; {row['share']:.2f}"
    return _table(list(rows.values()))


def _verdicts(table: pd.DataFrame) -> str:
    rows = []
    for (method, setting, needs), part in table.groupby(["method", "setting", "needs"], sort=False):
        entry = {"method": str(method), "tested on": str(setting), "forecast from": str(needs)}
        for row in part.to_dict("records"):
            entry[str(row["choice"])] = f"{row['right']:.0%} of {row['n']:.0f}".replace("%", " %")
        rows.append(entry)
    return _table(rows)


def _settled(table: pd.DataFrame) -> str:
    rows = []
    for row in table.to_dict("records"):
        bounds = [_number(float(row[name]), signed=True, digits=3) for name in ("difference", "low", "high")]
        rows.append(
            {
                "method": str(row["method"]),
                "tested on": str(row["setting"]),
                "pools whose plan by verdicts was scored": f"{row['scored']} of {row['pools']}",
                "its test score, minus that of the plan of the highest expectation": "{} [{}, {}]".format(*bounds),
            }
        )
    return _table(rows)


def _table(rows: list[dict[str, str]]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    return markdown([{name: row.get(name, "") for name in names} for row in rows]) if rows else "Not measured yet."


def _interval(row: Mapping[object, object], name: str, *, signed: bool, digits: int = 2) -> str:
    low_high = ("low", "high") if name == "regret" else (f"{name}_low", f"{name}_high")
    value, low, high = (float(row[each]) for each in (name, *low_high))  # type: ignore[arg-type]
    if math.isnan(value):
        return "undefined"
    text = _number(value, signed=signed, digits=digits)
    bounds = "" if math.isnan(low) else f" [{_number(low, signed, digits)}, {_number(high, signed, digits)}]"
    return text + bounds


def _number(value: float, signed: bool, digits: int = 2) -> str:
    return "undefined" if math.isnan(value) else f"{value:{'+' if signed else ''}.{digits}f}"
