"""A Ray cluster of two nodes on loopback, one core each: ``python -m tests.engines.two_nodes``.

Prints address and process ids as JSON when it stands, and ends with its standard input. The second node is a raylet of
its own, as another machine's would be.
"""

import json
import os
import sys
from typing import Any

os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "disabled"}

from ray.cluster_utils import Cluster

NODE: dict[str, Any] = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 80 * 2**20}


def main() -> None:
    cluster = Cluster(initialize_head=True, head_node_args=NODE)
    second = cluster.add_node(**NODE)
    cluster.wait_for_nodes()
    pid = second.all_processes["raylet"][0].process.pid
    print(json.dumps({"address": cluster.address, "second": pid}), flush=True)
    sys.stdin.read()
    cluster.shutdown()


if __name__ == "__main__":
    main()
