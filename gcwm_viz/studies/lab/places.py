"""Where forgetting is in the lab's systems: the shipped tables of ``lab where``, and what they say in Markdown."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from gcwm_viz.attribution.spatial import forgetting_pairs, spatial_summary
from gcwm_viz.errors import InputError
from gcwm_viz.studies.lab.summary import markdown

SHIPPED = Path(__file__).parent / "results" / "where"
TABLES = ("where", "space")
SIGNALS = (
    *("active_conflict", "state_conflict", "incoming_conflict", "state_gap", "global_gap", "sar"),
    *("update_norm", "increment_norm"),
)
"""Columns of the table ``matrices``; the last two are the simplest rivals: how much each matrix changes."""
RUN = ["seed", "order"]


def read_where(out: Path | None = None) -> tuple[dict[str, Any], dict[str, pd.DataFrame]]:
    """(where.json, tables) of a folder that ``lab where`` wrote, by default the shipped one.

    Raises :class:`InputError` for another folder.
    """
    folder = SHIPPED if out is None else out
    files = [folder / "where.json", *(folder / "tables" / f"{name}.parquet" for name in TABLES)]
    for file in files:
        if not file.is_file():
            raise InputError(f"{file}: expected it where `lab where` wrote its tables, found no such file")
    tables = {name: pd.read_parquet(file) for name, file in zip(TABLES, files[1:], strict=True)}
    return json.loads(files[0].read_bytes()), tables


def where_sections(tables: Mapping[str, pd.DataFrame]) -> dict[str, str]:
    """Markdown: ``space``, mean ρ of every signal with the harm to earlier tasks whose loss rose at the step, and its
    interval over runs;
    ``places``, shares of that harm by layer and family. By method; empty without a run."""
    if tables["space"].empty:
        return {}
    worse = forgetting_pairs(tables["space"], tables["where"])
    return {"space": _space(worse), "places": _places(tables["where"])}


def _space(earlier: pd.DataFrame) -> str:
    lines = {signal: [signal] for signal in SIGNALS}
    heads = ["signal"]
    for method, part in earlier.groupby("method", sort=False):
        heads.append(f"{method} ({len(part.drop_duplicates(RUN))} runs)")
        for row in spatial_summary(part, cluster=RUN).to_dict("records"):
            interval = "" if math.isnan(row["low"]) else f" [{row['low']:+.2f}, {row['high']:+.2f}]"
            lines[row["signal"]].append(f"{row['rho']:+.2f}{interval}")
    return markdown([dict(zip(heads, line, strict=True)) for line in lines.values()])


def _places(where: pd.DataFrame) -> str:
    """Shares of Σ max(A_k, 0) over earlier tasks, steps and runs."""
    harm = where[where["role"] == "earlier"].assign(harm=lambda rows: rows["value"].clip(lower=0.0))
    layers = [f"layer {layer}" for layer in sorted(harm["layer"].unique())]
    families = list(dict.fromkeys(harm["family"]))
    heads = ["method", *layers, *(family.removesuffix("_proj") for family in families)]
    rows = []
    for method, part in harm.groupby("method", sort=False):
        total = part["harm"].sum()
        by_layer, by_family = (part.groupby(name)["harm"].sum() / total for name in ("layer", "family"))
        shares = [*by_layer.sort_index(), *by_family[families]]
        rows.append(dict(zip(heads, [str(method), *(f"{share:.2f}" for share in shares)], strict=True)))
    return markdown(rows)
