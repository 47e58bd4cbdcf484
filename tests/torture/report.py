"""The results table of docs/reliability.md."""

import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.document import filled


@dataclass
class Report:
    rows: list[tuple[str, str, str]] = field(default_factory=list)
    began: float = 0.0

    def add(self, what: str, load: str, outcome: str) -> None:
        self.rows.append((what, load, outcome))

    def write(self, page: Path, machine: str) -> None:
        lines = ["| Test | Load | Outcome |", "|---|---|---|"]
        lines += [f"| {what} | {load} | {outcome} |" for what, load, outcome in self.rows]
        took = f"{time.monotonic() - self.began:.0f} s on {machine}."
        text = filled(page.read_text(encoding="utf-8"), {"results": "\n".join([*lines, "", took])})
        page.write_text(text, encoding="utf-8")
