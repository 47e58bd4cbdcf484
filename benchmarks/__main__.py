"""``python -m benchmarks [PART …]``: all parts by default."""

import argparse
import time
from collections.abc import Callable
from typing import Any

from benchmarks import growth, lab, layer, lora, machine, memory, pages, roofline, scale, scale_table, start, table

PARTS = ("layer", "memory", "growth", "lora", "roofline", "lab", "pages", "start", "scale")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure, check and write results.")
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--iters", type=int, default=100, help="Adam iterations of the part layer")
    parser.add_argument("--layers", type=int, default=4, help="layers of the model of the part memory, 28 for all")
    options = parser.parse_args()
    jobs: dict[str, tuple[Callable[..., dict[str, Any]], dict[str, Any]]] = {
        "layer": (layer.measure, {"iters": options.iters}),
        "memory": (memory.measure, {"layers": options.layers}),
        "growth": (growth.measure, {}),
        "lora": (lora.measure, {}),
        "roofline": (roofline.measure, {}),
        "lab": (lab.measure, {}),
        "pages": (pages.measure, {}),
        "start": (start.measure, {}),
        "scale": (scale.measure, {}),
    }
    for part in options.parts or PARTS:
        work, settings = jobs[part]
        print(part, flush=True)
        begin = time.perf_counter()
        machine.write(part, settings, work(**settings))
        print(f"  {time.perf_counter() - begin:.0f} s", flush=True)
    for page in (table, scale_table):
        page.DOCUMENT.write_text(page.document(page.DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
