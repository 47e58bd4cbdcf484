"""A finished run as it was while it computed."""

import json
import shutil
from pathlib import Path


def unfinished(run: Path, out: Path, *, matrices: int, models: int) -> Path:
    """A copy of ``run`` with its first ``matrices`` and scores of ``models`` checkpoints, and no written table."""
    shutil.copytree(run, out)
    shutil.rmtree(out / "tables")
    entries = [json.loads(line) for line in (out / "journal.jsonl").read_text().splitlines()]
    merged = [entry for entry in entries if entry["event"] == "matrix"][:matrices]
    start = next(entry for entry in entries if entry["event"] == "start")
    (out / "journal.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in (start, *merged)))
    for file in sorted((out / "probes").glob("*.json"))[models:]:
        file.unlink()
    return out
