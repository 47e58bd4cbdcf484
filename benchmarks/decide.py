"""``python -m benchmarks.decide [LAB] [--smollm2 DIR]``: forecasts that ship, and what the decision benchmark says.

LAB and DIR are folders that ``lab decide`` wrote. Their tables are copied to gcwm_viz/decide/results, forecasts are
fitted and reported, and the parts of docs/findings.md are written; without LAB the copied tables are used.
"""

import argparse
import json
import platform
from importlib.metadata import version
from pathlib import Path

import pandas as pd

from benchmarks.document import filled
from gcwm_viz.checkpoints.atomic import write_bytes
from gcwm_viz.decide.benchmark.cases import LAB, SMOLLM2
from gcwm_viz.decide.benchmark.report import results, write_csv
from gcwm_viz.decide.benchmark.shipped import read_results
from gcwm_viz.decide.benchmark.study import METHODS, TABLES
from gcwm_viz.decide.benchmark.summary import sections
from gcwm_viz.decide.forecast import SHIPPED, write

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "findings.md"
FOLDER = SHIPPED.parent
LIBRARIES = ("numpy", "scipy", "scikit-learn", "torch", "transformers")


def ship(study: Path, model: str) -> None:
    """Copy the tables and decide.json, without trainings and cells."""
    folder = FOLDER / model
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    for path in ("decide.json", *(f"tables/{name}.parquet" for name in TABLES)):
        write_bytes(folder / path, (study / path).read_bytes())


def tables_of(model: str) -> dict[str, pd.DataFrame] | None:
    """The copied tables of a model; None where there are none."""
    folder = FOLDER / model / "tables"
    if not folder.is_dir():
        return None
    return {name: pd.read_parquet(folder / f"{name}.parquet") for name in TABLES}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decide", description=__doc__)
    parser.add_argument("lab", nargs="?", type=Path, metavar="LAB")
    parser.add_argument("--smollm2", type=Path, metavar="DIR")
    parser.add_argument("--document", action="store_true", help="write docs/findings.md from the shipped results alone")
    options = parser.parse_args()
    for study, model in ((options.lab, LAB), (options.smollm2, SMOLLM2)):
        if study is not None:
            ship(study, model)
    if not options.document:
        lab = tables_of(LAB)
        assert lab is not None
        found, forecasts, source = results(lab, tables_of(SMOLLM2), METHODS, print)
        write_csv(found, FOLDER)
        info = json.loads((FOLDER / LAB / "decide.json").read_bytes())
        versions = {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES}
        about = {"source": "gcwm-viz lab decide; python -m benchmarks.decide", "fitted with": versions}
        write(forecasts, about | source | {"trained with": info["versions"]}, SHIPPED)
    read_results.cache_clear()
    text = filled(DOCUMENT.read_text(encoding="utf-8"), sections(read_results()))
    DOCUMENT.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
