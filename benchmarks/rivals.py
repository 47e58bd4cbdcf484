"""``python -m benchmarks.rivals [STUDY]``: merge methods against WUDI on the same experts, over seeds and orders.

STUDY: a folder that ``lab study --methods wudi,…`` wrote. Its means, paired differences and times go to
benchmarks/results/rivals.json and into docs/findings.md; without it the document alone is written, from that file.
"""

import argparse
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.document import filled
from gcwm_viz.statistics.comparison import method_means, paired_differences
from gcwm_viz.studies.lab.plan import MERGES
from gcwm_viz.studies.lab.summary import markdown
from gcwm_viz.studies.lab.tables import read_study

NAME, REFERENCE = "rivals", "wudi"
TARGET = "test_em_overall"
DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "findings.md"


def measured(study: Path) -> list[dict[str, Any]]:
    """One row a merge method, best first: mean exact match on test over tasks at the final step, and its difference
    from WUDI's on the same seed and order, each with a 95 % interval over seeds; seconds of CPU for all six steps."""
    runs = read_study(study)[1]["runs"]
    runs = runs[runs["method"].isin(MERGES)]
    # A study that is still under way has some methods on more orders than others.
    methods = runs.groupby(["seed", "order"])["method"].transform("nunique")
    runs = runs[methods == runs["method"].nunique()]
    means, gains = method_means(runs, TARGET), paired_differences(runs, TARGET, REFERENCE).set_index("method")
    seconds = runs.drop_duplicates(["method", "seed", "order"]).groupby("method")["seconds"].mean()
    etas = runs.groupby("method")["eta"].unique()
    rows = []
    for row in means.to_dict("records"):
        name = row["method"]
        gain = gains.loc[name, ["difference", "low", "high"]].tolist() if name in gains.index else None
        rows.append(row | {"gain": gain, "seconds": float(seconds[name]), "etas": sorted(map(float, etas[name]))})
    return rows


def section(rows: list[dict[str, Any]]) -> str:
    lines = []
    for row in rows:
        gain = row["gain"]
        lines.append(
            {
                "merge": row["method"],
                "sees": "development probes, for its settings",
                "η chosen": ", ".join(f"{eta:g}" for eta in row["etas"]),
                "exact match on test": f"{row['mean']:.3f} [{row['low']:.3f}, {row['high']:.3f}]",
                "over WUDI, in pairs": "" if gain is None else f"{gain[0]:+.3f} [{gain[1]:+.3f}, {gain[2]:+.3f}]",
                "seconds": f"{row['seconds']:.1f}",
            }
        )
    return markdown(lines)


def document(text: str) -> str:
    """docs/findings.md with the table of the stored results."""
    stored = machine.read(NAME)
    assert stored is not None
    return filled(text, {NAME: section(stored["result"]["methods"])})


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rivals", description=__doc__)
    parser.add_argument("study", nargs="?", type=Path, metavar="STUDY")
    options = parser.parse_args()
    if options.study:
        rows = measured(options.study)
        machine.write(NAME, {"seeds": rows[0]["seeds"], "runs": rows[0]["runs"]}, {"methods": rows})
    DOCUMENT.write_text(document(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
