"""A generated study: methods × seeds × orders × steps, in which conflict goes with forgetting and gcwm leads by 0.1."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

TASKS = ("past", "capital", "index")
METHODS = {"seq-sft": 0.5, "gcwm": 0.7, "wudi": 0.6}


def make_study(seeds: int = 3, orders: int = 2) -> dict[str, pd.DataFrame]:
    """Tables of a study; with one seed there are no intervals."""
    rng = np.random.default_rng(3)
    runs, scores, cells = [], [], []
    for method, level in METHODS.items():
        for seed in range(seeds):
            for place in range(orders):
                names = [*TASKS[place:], *TASKS[:place]]
                key = {"method": method, "seed": seed, "order": ",".join(names)}
                for step, update in enumerate(names, start=1):
                    conflict = 0.1 * step + rng.normal(0, 0.02)
                    lost = conflict * 2 + rng.normal(0, 0.02) if step > 1 else np.nan
                    values = {"overall": level + 0.01 * seed, "old_mean": level, "learned": 0.9, "current": 0.9}
                    values |= {"forgetting": lost, "bwt": -lost, "immediate_drop": -0.1, "plasticity_gap": 0.2}
                    signals = dict.fromkeys(("state_gap", "global_gap", "incoming_conflict", "sar"), conflict)
                    signals |= {"active_conflict": conflict, "state_conflict": conflict, "update_norm": 1.0}
                    signals |= {"merged_norm": float(step), "gradient_mean": 0.5 - conflict}
                    signals |= {"gradient_min": -conflict, "gradient_negative": np.nan}
                    measured = {
                        f"{s}_{m}_{n}": v for s in ("dev", "test") for m in ("em", "nll") for n, v in values.items()
                    }
                    cost = {"seconds": 10.0, "train_seconds": 6.0 if method == "seq-sft" else 0.0}
                    runs.append(key | {"step": step, "update": update} | signals | measured | cost)
                    cells += [
                        key | {"step": step, "matrix": f"model.layers.0.{family}.weight", "layer": 0, "family": family}
                        | {"active_conflict": conflict + shift, "conflict": conflict, "gradient_mean": 0.5 - shift}
                        for family, shift in (("q_proj", 0.0), ("down_proj", 0.2))
                    ]  # fmt: skip
    for seed in range(seeds):
        for index, expert in enumerate(TASKS, start=1):
            for task in TASKS:
                expert_row: dict[str, Any] = {
                    "method": "",
                    "seed": seed,
                    "order": "",
                    "model": "expert",
                    "step": index,
                    "update": expert,
                }
                scores += [
                    expert_row | {"task": task, "split": split, "metric": metric}
                    | {"value": 0.96 if task == expert else 0.2}
                    for split in ("dev", "test") for metric in ("em", "nll")
                ]  # fmt: skip
    finished = pd.DataFrame(runs)
    for row in finished[finished["step"] == len(TASKS)].itertuples():
        step_row: dict[str, Any] = {
            "method": row.method,
            "seed": row.seed,
            "order": row.order,
            "model": "step",
            "update": row.update,
        }
        scores += [
            step_row | {"step": row.step, "task": task, "split": split, "metric": metric}
            | {"value": METHODS[str(row.method)] - lost}
            for task, lost in zip(TASKS, (0.2, 0.1, 0.0), strict=True)
            for split in ("dev", "test") for metric in ("em", "nll")
        ]  # fmt: skip
    ablations = [
        {"seed": seed, "question": question, "variant": variant, "eta": 1.0, "dev": value, "test": value + 0.01 * seed}
        | {"dev_se": 0.02, "test_se": 0.02}
        for question, variants in {"gate": {"off": 0.7, "conflict": 0.6}, "ridge": {"ρ 0": 0.1, "ρ 10": 0.7}}.items()
        for variant, value in variants.items() for seed in range(seeds)
    ]  # fmt: skip
    return {
        "runs": finished,
        "scores": pd.DataFrame(scores),
        "cells": pd.DataFrame(cells),
        "ablations": pd.DataFrame(ablations),
    }


def write_study(root: Path, seeds: int = 3, orders: int = 2) -> Path:
    """Write ROOT/study, where the pages look first."""
    folder = root / "study"
    (folder / "tables").mkdir(parents=True)
    (folder / "study.json").write_text(json.dumps({"seeds": seeds, "orders": orders}))
    empty = pd.DataFrame({"method": pd.Series(dtype=str)})
    for name, table in (make_study(seeds, orders) | {"choices": empty}).items():
        table.to_parquet(folder / "tables" / f"{name}.parquet")
    return folder
