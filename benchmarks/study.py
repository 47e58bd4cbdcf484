"""``python -m benchmarks.study [STUDY] [--where WHERE]``: shipped tables of the lab's studies, and docs/findings.md's.

STUDY and WHERE, folders that ``lab study`` and ``lab where`` wrote, replace the shipped tables; without them only the
document is written, from these.
"""

import argparse
from pathlib import Path

import pandas as pd

from benchmarks.document import filled
from gcwm_viz.checkpoints.atomic import write_bytes, write_json
from gcwm_viz.studies.lab import places
from gcwm_viz.studies.lab.summary import sections
from gcwm_viz.studies.lab.tables import SHIPPED, TABLES, read_study

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "findings.md"


def ship(study: Path, folder: Path = SHIPPED) -> None:
    """Copy the tables, and study.json with the number of finished runs per method; no trainings and cells."""
    info, tables = read_study(study)
    runs = tables["runs"]
    done = runs.drop_duplicates(["method", "seed", "order"]) if len(runs) else pd.DataFrame({"method": []})
    finished = {str(name): len(part) for name, part in done.groupby("method")}
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    write_json(folder / "study.json", info | {"finished": finished})
    for name in TABLES:
        path = Path("tables") / f"{name}.parquet"
        write_bytes(folder / path, (study / path).read_bytes())


def ship_where(study: Path, folder: Path = places.SHIPPED) -> None:
    """Copy where.json and the tables, without trainings and cells."""
    places.read_where(study)
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    for path in ("where.json", *(f"tables/{name}.parquet" for name in places.TABLES)):
        write_bytes(folder / path, (study / path).read_bytes())


def document(text: str) -> str:
    """docs/findings.md with the tables of the shipped studies."""
    return filled(text, sections(read_study()[1]) | places.where_sections(places.read_where()[1]))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.study", description=__doc__)
    parser.add_argument("study", nargs="?", type=Path, metavar="STUDY")
    parser.add_argument("--where", type=Path, metavar="WHERE")
    options = parser.parse_args()
    if options.study:
        ship(options.study)
    if options.where:
        ship_where(options.where)
    DOCUMENT.write_text(document(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
