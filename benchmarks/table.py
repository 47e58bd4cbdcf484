"""The generated part of benchmarks/README.md."""

from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.document import filled

DOCUMENT = Path(__file__).parent / "README.md"


def rows() -> list[tuple[str, str, str]]:
    """(what, measured, goal) of every part that has a result."""
    lines: list[tuple[str, str, str]] = []
    if layer := _result("layer"):
        for module, row in layer["matrices"].items():
            shape = "×".join(str(size) for size in row["shape"])
            text = f"{row['naive_s']:.1f} s → {row['ours_s']:.1f} s, {row['speedup']:.1f}×"
            goal = "20×" if module in ("mlp.gate_proj", "mlp.up_proj") else ""
            lines.append((f"{module} {shape}, m = 3, naive → here", text, goal))
        whole = layer["layer"]
        text = f"{whole['naive_s']:.0f} s → {whole['ours_s']:.0f} s, {whole['speedup']:.1f}×"
        lines.append(("whole layer, Qwen3-0.6B shapes, m = 3", text, "10×"))
        exact = layer["from_float64"]
        text = f"{exact['ours_float32']:.0e} here, {exact['naive_float32']:.0e} naive"
        lines.append(("float32 merged update, difference from the naive transcription in float64", text, "1e-6"))
    if memory := _result("memory"):
        for label in ("model", "many_updates"):
            row = memory[label]
            what = f"peak memory beyond the libraries, {row['layers']} layers, {row['updates']} updates on disk"
            lines.append(
                (
                    what,
                    f"{row['peak_gb']:.2f} GB ({row['inputs_gb']:.1f} GB of inputs, {row['seconds']:.0f} s)",
                    "1.5 GB",
                )
            )
    if growth := _result("growth"):
        for solver in ("exact", "adam"):
            row = growth[f"updates_{solver}"]
            lines.append((f"time over m = {row['m']}, {solver}", _growth(row), ""))
        row = growth["hidden"]
        lines.append((f"time over hidden size {row['hidden']}, exact, m = 2", _growth(row), ""))
        row = growth["geometry"]
        what = f"geometry and signals, {row['tasks']} tasks × all steps, union rank {row['union_rank']}"
        lines.append((what, f"{row['seconds']:.1f} s per matrix of {row['hidden']}²", ""))
    if lora := _result("lora"):
        for solver in ("adam", "exact"):
            row = lora[solver]
            text = f"{row['dense_s']:.1f} s → {row['lora_s']:.2f} s, {row['speedup']:.0f}×"
            lines.append((f"LoRA rank 16 against dense, 3072×1024, {solver}", text, "5×"))
    if roof := _result("roofline"):
        text = f"{roof['achieved_s']:.1f} s, {roof['over_limit']:.1f} × the limit of {roof['limit_s']:.1f} s"
        lines.append((f"run from disk, {roof['updates']} steps of a layer, {roof['iters']} iterations", text, ""))
        rates = f"{roof['float32_gflops']:.0f} GFLOP/s float32, {roof['float64_gflops']:.0f} float64"
        lines.append(("rates behind the limit", rates, ""))
    if begin := _result("start"):
        goals = begin["goals_s"]
        for name, what in (("help_s", "`gcwm-viz --help`"), ("show_s", "`gcwm-viz show` of a run")):
            lines.append((what, f"{begin[name]:.2f} s", f"{goals[name]:g} s"))
        if "heading_s" in (visit := begin["visit"]):
            lines.append(("first visit, browser on the same cores: heading", f"{visit['heading_s']:.1f} s", ""))
            for name, what in (("cells_s", "first cells"), ("complete_s", "the lab complete")):
                after = visit[name] - visit["heading_s"]
                lines.append((f"first visit: {what}, after the heading", f"{after:.0f} s", f"{goals[name]:g} s"))
    if pages := _result("pages"):
        for kind, label in (("normal", "a run of the lab's size"), ("wide", "36 layers × 14 steps")):
            part = pages[kind]
            lines.append((f"slowest page script, {label}", f"{part['slowest_s']:.2f} s", f"{part['goal_s']:g} s"))
    if lab := _result("lab"):
        text = f"{lab['seconds']:.1f} s (matrices {lab['matrices_s']:.1f}, probes {lab['probes_s']:.1f})"
        lines.append(("first run of the lab", text, "15 s"))
    if scale := _result("scale"):
        text = ", ".join(
            f"{scale[name]['matrices_a_minute']:.0f} ({scale[name]['label']}, predicted "
            f"{60 * scale[name]['matrices'] / scale[name]['predicted_s']:.0f})"
            for name in ("local_1", "local_2", "ray_2")
            if name in scale
        )
        lines.append(("matrices per minute, hidden size 384, 3 updates", text, ""))
        if "task_s" in scale:
            single, under_way = (1e3 * scale[name] for name in ("task_s", "pipelined_task_s"))
            text = f"{single:.1f} ms, {under_way:.1f} ms with two per worker in progress"
            lines.append(("overhead of a Ray task", text, "50 ms"))
    gpu = _result("gpu")
    if gpu is None or gpu.get("status") == "not yet measured":
        lines.append(("a step of Qwen3-8B on a GPU", "not yet measured: `make bench-gpu`", "≤ 90 s TF32, ≤ 60 s exact"))
    else:
        for name, row in gpu.items():
            if isinstance(row, dict) and "seconds" in row:
                text = f"{row['seconds']:.0f} s, {row['peak_gb']:.1f} GB"
                text += f" (published {row['published_minutes']} min, {row['published_gb']} GB)"
                lines.append((f"Qwen3-8B, {name}", text, ""))
            elif "effect of" in name:
                text = f"γ {row['gamma']:.0e}, α {row['alpha']:.0e}, merged update {row['merged']:.0e}"
                lines.append((f"Qwen3-8B, {name} on a matrix", text, ""))
    return lines


def document(text: str) -> str:
    """The README with the table of the results, and the machine of each."""
    lines = ["| | measured | goal |", "|---|---|---|", *(f"| {a} | {b} | {c} |" for a, b, c in rows())]
    for name in ("layer", "memory", "growth", "lora", "roofline", "lab", "scale"):
        content = machine.read(name)
        if content:
            host = content["machine"]
            lines += [
                "",
                f"{name}: {host['cpu']}, {host['cores']} cores, {host['threads']} threads, load before "
                f"{host['load_before']}, torch {host['torch']}, {host['date']}, commit {host['commit']}.",
            ]
    return filled(text, {"results": "\n".join(lines)})


def _growth(row: dict[str, Any]) -> str:
    return ", ".join(f"{value:.2f}" for value in row["seconds"]) + f" s: exponent {row['exponent']:.2f}"


def _result(name: str) -> dict[str, Any] | None:
    content = machine.read(name)
    return content["result"] if content else None
