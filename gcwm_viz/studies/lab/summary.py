"""Summary of a study in Markdown: the output of `lab study` and the source of the tables in docs/findings.md."""

from collections.abc import Mapping, Sequence

import pandas as pd

from gcwm_viz.signals.gradients import family_comparison
from gcwm_viz.statistics.association import association
from gcwm_viz.statistics.comparison import final_steps, paired_differences

REFERENCE = "seq-sft"
TARGETS = {
    "test_em_overall": "overall",
    "test_em_old_mean": "old tasks",
    "test_em_learned": "learned",
    "test_em_forgetting": "forgetting",
    "test_em_bwt": "BWT",
}
SIGNALS = (
    *("update_norm", "merged_norm", "active_conflict", "state_conflict", "state_gap", "global_gap"),
    *("incoming_conflict", "sar", "gradient_mean", "gradient_min", "gradient_negative"),
)
FORGETTING = "test_em_forgetting"
TITLES = {
    "means": "Final step, exact match on test",
    "associations": "Spearman's ρ with forgetting",
    "families": "Families of the top cells",
    "ablations": "Ablations, exact match on test at the η that dev chose",
}
SHOWN = ("seq-sft", "gcwm", "wudi", "task-arithmetic", "aimmerging")
"""Methods whose associations fit a page; the page Explain shows all."""
TOP_CELLS = 30
LEAST_RUNS = 2


def sections(tables: Mapping[str, pd.DataFrame]) -> dict[str, str]:
    """Tables of means, of associations with forgetting for :data:`SHOWN` with two runs and more, of families, and of
    ablations where there are any. Exact match on the test split; ± is the standard deviation over runs, absent
    for one run."""
    runs = tables["runs"]
    if runs.empty:
        return {}
    texts = {"means": _means(runs), "associations": _associations(runs), "families": _families(tables["cells"])}
    return texts | ({"ablations": _ablations(tables["ablations"])} if len(tables["ablations"]) else {})


def summary(tables: Mapping[str, pd.DataFrame]) -> str:
    """All sections under their titles."""
    parts = [f"## {TITLES[name]}\n\n{text}" for name, text in sections(tables).items()]
    return "\n\n".join(parts) + "\n" if parts else "No run is finished."


def markdown(rows: Sequence[Mapping[str, str]]) -> str:
    """A table of texts."""
    head = list(rows[0])
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row[name] for name in head) + " |" for row in rows)])


def _means(runs: pd.DataFrame) -> str:
    final = final_steps(runs)
    order = final.groupby("method")["test_em_overall"].mean().sort_values(ascending=False)
    gains = {}
    if REFERENCE in order.index:
        table = paired_differences(runs, "test_em_overall", REFERENCE)
        gains = {row.method: f"{row.difference:+.3f} ({row.pairs})" for row in table.itertuples()}
    rows = []
    for method in order.index:
        part = final[final["method"] == method]
        row = {"method": str(method), "seeds × orders": f"{part['seed'].nunique()} × {part['order'].nunique()}"}
        row |= {title: _spread(part[name]) for name, title in TARGETS.items()}
        row[f"overall − {REFERENCE} (pairs)"] = gains.get(str(method), "")
        rows.append(row)
    return markdown(rows)


def _spread(values: pd.Series) -> str:
    return f"{values.mean():.3f}" + (f" ± {values.std():.3f}" if len(values) > 1 else "")


def _associations(runs: pd.DataFrame) -> str:
    table = association(runs[runs["method"].isin(SHOWN)], SIGNALS, [FORGETTING])
    table = table if table.empty else table[table["runs"] >= LEAST_RUNS]
    if table.empty:
        return f"No method has {LEAST_RUNS} runs yet: the steps of one run say nothing about others."
    rows = []
    for signal in SIGNALS:
        row = {"signal": signal}
        for method, part in table[table["signal"] == signal].groupby("method", sort=False):
            value = part.iloc[0]
            given = "" if pd.isna(value.partial) else f"; {value.partial:+.2f}"
            interval = f" [{value.low:+.2f}, {value.high:+.2f}]"
            row[f"{method} ({value.runs} runs)"] = (
                "undefined" if pd.isna(value.rho) else f"{value.rho:+.2f}{interval}{given}"
            )
        rows.append(row)
    return markdown(_filled(rows)) + "\n\nρ, 95 % interval over runs; partial ρ given the step."


def _families(cells: pd.DataFrame) -> str:
    methods = [name for name in (REFERENCE, "gcwm") if name in set(cells["method"])]
    rows: dict[str, dict[str, str]] = {}
    for method in methods:
        for part in family_comparison(cells[cells["method"] == method], TOP_CELLS).itertuples():
            row = rows.setdefault(str(part.family), {"family": str(part.family), "of all": f"{part.expected:.0%}"})
            row[f"{method}: highest conflict"] = f"{part.conflict:.0%}"
            row[f"{method}: lowest gradient cosine"] = f"{part.gradient:.0%}"
    if not rows:
        return f"Neither {REFERENCE} nor gcwm has a finished run."
    return markdown(_filled(list(rows.values()))) + f"\n\nShares of the {TOP_CELLS} top (step, matrix) cells."


def _ablations(table: pd.DataFrame) -> str:
    rows = []
    for (question, variant), part in table.groupby(["question", "variant"], sort=False):
        rows.append(
            {
                "question": str(question),
                "variant": str(variant),
                "seeds": str(part["seed"].nunique()),
                "η": ", ".join(f"{eta:g}" for eta in sorted(set(part["eta"]))),
                "dev": _spread(part["dev"]),
                "test": _spread(part["test"]),
            }
        )
    return markdown(rows)


def _filled(rows: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    names = list(dict.fromkeys(name for row in rows for name in row))
    return [{name: row.get(name, "") for name in names} for row in rows]
