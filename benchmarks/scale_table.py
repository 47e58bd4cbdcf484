"""The tables of docs/scale.md: what ``benchmarks scale`` measured, extrapolated to runs too large to measure."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.document import filled
from benchmarks.inputs import Shapes, qwen3
from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.estimate import flops_of, memory_of

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "scale.md"

GPU_FLOPS = 2.5e13
"""Assumed operations per second of a data-centre GPU on this mix of float32 and float64: not yet measured."""
GPU_MATRIX_S = 0.3
"""Assumed seconds of a matrix on a GPU besides its operations (small decompositions, files): not yet measured."""
STORAGE = (2e9, 20e9)
"""Bytes per second of shared storage: a good file server, and a parallel file system."""
WORKERS = (1, 8, 64)
DISK_BYTES = 2
"""Bytes of a stored weight: float16 or bfloat16."""


@dataclass(frozen=True)
class Model:
    """A decoder's matrices: how often each shape occurs in it."""

    name: str
    counts: Mapping[tuple[int, int], int]

    @property
    def matrices(self) -> int:
        return sum(self.counts.values())

    @property
    def parameters(self) -> int:
        return sum(count * shape[0] * shape[1] for shape, count in self.counts.items())


def dense(name: str, shapes: Shapes, layers: int) -> Model:
    counts: dict[tuple[int, int], int] = {}
    for shape in shapes.values():
        counts[shape] = counts.get(shape, 0) + layers
    return Model(name, counts)


def experts(name: str, hidden: int, attention: tuple[int, int], width: int, experts: int, layers: int) -> Model:
    """A mixture of experts: attention of (q, kv) width, a router, and three matrices per expert."""
    q, kv = attention
    layer = {(q, hidden): 1, (kv, hidden): 2, (hidden, q): 1, (experts, hidden): 1}
    layer |= {(width, hidden): 2 * experts, (hidden, width): experts}
    return Model(name, {shape: layers * count for shape, count in layer.items()})


# Shapes of Llama-3-70B and of Qwen3-235B-A22B, from their configurations.
LLAMA_70B = dense("70B, dense", qwen3(8192, 28672, 8192, 1024), 80)
QWEN3_235B = experts("235B, 128 experts", 4096, (8192, 512), 1536, 128, 94)


@dataclass(frozen=True)
class Forecast:
    """Hours of the parts of a run, which overlap, so that the largest decides; bytes read, written, and of one worker.

    most: number of workers beyond which the longest matrix, or the driver's journal, decides.
    """

    compute_h: float
    read_h: tuple[float, ...]
    read_bytes: float
    written_bytes: float
    memory_bytes: int
    most: int


def forecast(model: Model, updates: int, workers: int, rate: float, matrix_s: float, journal_line_s: float) -> Forecast:
    """Full checkpoints as updates. Every matrix of an update, and the base's with it, is read twice: to be merged, and
    for the norms of the table of updates, one update per worker."""
    settings = RunSettings.preset_with("scale-free", {"keep": "last"})
    seconds = {shape: matrix_s + flops_of(shape, updates, settings) / rate for shape in model.counts}
    total = sum(seconds[shape] * count for shape, count in model.counts.items())
    longest = max(seconds.values())
    read = 2 * 2 * updates * DISK_BYTES * model.parameters
    journal = model.matrices * journal_line_s
    return Forecast(
        compute_h=max(total / workers, longest) / 3600,
        read_h=tuple(read / bandwidth / 3600 for bandwidth in STORAGE),
        read_bytes=read,
        written_bytes=2 * 4 * model.parameters,
        memory_bytes=max(memory_of(shape, updates, settings) for shape in model.counts),
        most=int(total / max(longest, journal)),
    )


def document(text: str) -> str:
    """docs/scale.md with the tables of the result, unchanged without a result."""
    content = machine.read("scale")
    if content is None:
        return text
    return filled(text, {"results": "\n".join(tables_of(content["result"], content["machine"]))})


def tables_of(result: dict[str, Any], host: dict[str, Any]) -> list[str]:
    per_update = result["read_bytes"] / result["parameters"] / result["updates"]
    lines = [
        f"Measured on {host['cpu']}, {host['cores']} cores, load before {host['load_before']}, torch {host['torch']}, "
        f"{host['date']}, commit {host['commit']}.",
        "",
        "| | measured |",
        "|---|---|",
        f"| rate of one worker (operations of `flops_of`, {result['updates']} updates) | "
        f"{result['rate_flops'] / 1e9:.0f} GFLOP/s |",
        f"| a matrix besides its operations | {1e3 * result['matrix_s']:.0f} ms |",
        f"| an empty Ray task, one at a time | {1e3 * result['task_s']:.1f} ms |",
        f"| an empty Ray task, two per worker in progress | {1e3 * result['pipelined_task_s']:.1f} ms |",
        f"| a journal line, on disk | {1e3 * result['journal_line_s']:.1f} ms |",
        f"| bytes read a parameter and update | {per_update:.1f} |",
        f"| bytes written a parameter, last step kept | {result['written_bytes'] / result['parameters']:.1f} |",
        "",
        "| the same run, same bytes | matrices | predicted | measured | CPU time per worker | matrices per minute |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['label']} | {row['matrices']} | {row['predicted_s']:.1f} s | {row['seconds']:.1f} s | "
        + ("" if row["processor_s"] is None else f"{row['processor_s']:.1f} s")
        + f" | {row['matrices_a_minute']:.0f} |"
        for name in ("local_1", "local_2", "ray_2")
        if (row := result.get(name))
    ]
    lines += [
        "",
        "| model | matrices | updates | read | written | memory of a worker |",
        "|---|---|---|---|---|---|",
    ]
    cases = [(model, updates) for model in (LLAMA_70B, QWEN3_235B) for updates in (3, 14)]
    line_s = result["journal_line_s"]
    for model, updates in cases:
        run = forecast(model, updates, 1, GPU_FLOPS, GPU_MATRIX_S, line_s)
        lines.append(
            f"| {model.name} | {model.matrices:,} | {updates} | {run.read_bytes / 1e12:.1f} TB | "
            f"{run.written_bytes / 1e12:.1f} TB | {run.memory_bytes / 1e9:.0f} GB |"
        )
    fast, slow = (f"{bandwidth / 1e9:.0f} GB/s" for bandwidth in reversed(STORAGE))
    lines += [
        "",
        f"| model | updates | one core, measured rate | {' | '.join(f'{n} GPU' + 's' * (n > 1) for n in WORKERS)} | "
        f"reading at {slow} | at {fast} | useful GPUs |",
        "|---|---|---|" + "---|" * (len(WORKERS) + 3),
    ]
    for model, updates in cases:
        core = forecast(model, updates, 1, result["rate_flops"], result["matrix_s"], line_s)
        gpus = [forecast(model, updates, n, GPU_FLOPS, GPU_MATRIX_S, line_s) for n in WORKERS]
        lines.append(
            f"| {model.name} | {updates} | {core.compute_h:,.0f} h | "
            + " | ".join(f"{run.compute_h:.2f} h" for run in gpus)
            + f" | {gpus[0].read_h[0]:.1f} h | {gpus[0].read_h[1]:.2f} h | {gpus[0].most} |"
        )
    return [
        *lines,
        "",
        f"GPU columns: not yet measured; assumed: {GPU_FLOPS:.1e} operations per second, {GPU_MATRIX_S} s per matrix.",
    ]
