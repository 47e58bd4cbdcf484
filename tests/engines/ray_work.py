"""Items for a Ray cluster and what became of them: ``python -m tests.engines.ray_work ADDRESS FOLDER``."""

import json
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from gcwm_viz.engines import cluster
from gcwm_viz.engines.cluster import RayEngine
from gcwm_viz.engines.engine import Worker, WorkerDiedError
from gcwm_viz.errors import InputError


def work(folder: str, worker: Worker, item: str) -> str:
    with (Path(folder) / "attempts").open("a") as attempts:
        attempts.write(f"{item}\n")
    kind, _, number = item.partition(" ")
    if kind == "wrong":
        raise InputError(f"item {number} is wrong")
    if kind == "dies-once" and (Path(folder) / "attempts").read_text().count(item) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "slow":
        time.sleep(0.5)
    return f"{worker.device} {torch.get_num_threads()}"


def main(address: str, folder: str) -> None:
    def attempts(item: str) -> int:
        return (Path(folder) / "attempts").read_text().split("\n").count(item)

    found: dict[str, object] = {}
    with RayEngine(address) as engine:
        found["workers"] = engine.workers
        do = partial(work, folder)
        found["values"] = dict(engine.unordered(do, [f"good {n}" for n in range(6)], memory=lambda _: 10**15))
        found["after a death"] = dict(engine.unordered(do, ["dies-once 1", "good 7"]))
        found["attempts of the one that died"] = attempts("dies-once 1")
        reported: list[Any] = []
        try:
            # Four items are handed out to two workers; the first fails while the others are under way.
            reported.extend(item for item, _ in engine.unordered(do, ["wrong 1", *(f"slow {n}" for n in range(20))]))
        except InputError as error:
            found["error"] = str(error)
        found["reported beside it"] = reported
        found["attempts of the wrong one"] = attempts("wrong 1")
        cluster.RETRIES = 1  # every attempt is a process that loads torch
        try:
            list(engine.unordered(do, ["dies always"], limit=1))
        except WorkerDiedError as error:
            found["given up"] = str(error)
        found["attempts of what always dies"] = attempts("dies always")
    try:
        RayEngine(address, device="cuda")
    except InputError as error:
        found["no GPU"] = str(error)
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
