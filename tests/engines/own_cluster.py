"""The cluster that the engine starts by itself, and where it listens: ``python -m tests.engines.own_cluster``."""

import json
import os

import psutil

from gcwm_viz.engines.cluster import RayEngine
from gcwm_viz.engines.engine import Worker


def pid(worker: Worker, item: int) -> int:
    return os.getpid()


def main() -> None:
    with RayEngine(workers=1) as engine:
        from ray._common.usage.usage_lib import usage_stats_enabled

        pids = set(dict(engine.unordered(pid, range(3))).values())
        processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
        listening = {
            connection.laddr.ip
            for process in processes
            for connection in process.net_connections()
            if connection.status == psutil.CONN_LISTEN
        }
        found = {"workers": engine.workers, "pids": len(pids), "listening": sorted(listening)}
        found["reports its usage"] = usage_stats_enabled()
    gone = psutil.wait_procs([process for process in processes if process.pid != os.getpid()], timeout=10)[1]
    print(json.dumps(found | {"left": [process.pid for process in gone]}))


if __name__ == "__main__":
    main()
