"""Work over a Ray cluster: one task per item, with one GPU each where the cluster has GPUs.

Without an address a cluster of this machine alone is started, on loopback, and ends with the engine. A cluster runs
any code that is sent to its ports: keep it within a private network. Ray sends no usage reports.
"""

import ipaddress
import logging
import os
import secrets
import socket
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from gcwm_viz.engines.engine import Engine, Item, Value, Worker, WorkerDiedError
from gcwm_viz.engines.local import default_workers
from gcwm_viz.errors import InputError, first_line
from gcwm_viz.linalg.threads import use_one_thread

RETRIES = 3
"""How often an item is restarted after its worker or node was lost. An error of the item itself is never retried."""

STORE_BYTES = 80 * 2**20
"""Ray's shared memory on this machine; only paths, indices, seconds and names pass through it."""


class RayEngine(Engine):
    """Workers of a Ray cluster. ``address``: HOST:PORT or ``auto``, None for this machine alone.

    ``device``: ``auto`` takes the cluster's GPUs where it has any, and its CPUs otherwise. ``workers``: most
    items at a time, by default as many as there are GPUs or cores, including those that join later.

    Raises :class:`InputError` where Ray is not installed, no cluster responds, or it has no such device.
    """

    def __init__(self, address: str | None = None, device: str = "auto", workers: int | None = None) -> None:
        self._ray = _connected(address, workers or default_workers(torch.device("cpu")))
        gpus = self._slots("GPU")
        if device not in ("auto", "cpu", "cuda"):
            self.close()
            raise InputError(f"device {device!r}: Ray assigns the devices itself, expected auto, cpu or cuda")
        if device == "cuda" and not gpus:
            self.close()
            raise InputError(f"device 'cuda': the Ray cluster at {address or 'this machine'} has no GPU")
        self.device = "cuda" if gpus and device != "cpu" else "cpu"
        self._most = workers

    @property
    def workers(self) -> int:
        slots = max(1, self._slots("GPU" if self.device == "cuda" else "CPU"))
        return slots if self._most is None else min(slots, self._most)

    def unordered(
        self,
        work: Callable[[Worker, Item], Value],
        items: Sequence[Item],
        *,
        limit: int | None = None,
        memory: Callable[[Item], int] | None = None,
        overlap: bool = False,
    ) -> Iterator[tuple[Item, Value]]:
        ray = self._ray
        task = ray.remote(_work)
        options = {"num_cpus": 1, "num_gpus": 1 if self.device == "cuda" else 0}
        options |= {"max_retries": RETRIES, "retry_exceptions": False}
        shared_work = ray.put(work)
        # A task waits for a node with enough memory; one that needs more than any node has runs on the largest.
        largest = self._largest_memory() if self.device == "cpu" else 0
        waiting = list(items)
        running: dict[Any, Item] = {}
        failure: BaseException | None = None
        capped = limit if limit is not None else self._most
        try:
            while waiting or running:
                # A second item per worker is sent while the first is computed, unless a limit forbids it.
                most = 2 * self.workers if capped is None else min(capped, 2 * self.workers)
                while waiting and len(running) < most:
                    item = waiting.pop(0)
                    need = {"memory": min(memory(item), largest)} if memory and largest else {}
                    running[task.options(**options, **need).remote(self.device, shared_work, item)] = item
                ready, _ = ray.wait(list(running), num_returns=1, timeout=5.0)
                for reference in ready:
                    item = running.pop(reference)
                    value, error = self._outcome(reference, item)
                    if error is None:
                        yield item, value
                    else:
                        failure = failure or error
                        waiting.clear()
            if failure is not None:
                raise failure
        except ray.exceptions.RayError as error:
            raise WorkerDiedError(f"the Ray cluster was lost ({first_line(error)}); resume goes on") from None
        finally:
            for reference in running:
                ray.cancel(reference, force=True)

    def _outcome(self, reference: Any, item: object) -> tuple[Any, BaseException | None]:
        try:
            outcome: tuple[Any, BaseException | None] = self._ray.get(reference)
            return outcome
        except self._ray.exceptions.RayError as error:
            return None, WorkerDiedError(
                f"item {item} was begun {RETRIES + 1} times and its worker or node lost each time, perhaps for lack of "
                f"memory ({first_line(error)}); resume goes on, with fewer workers"
            )

    def _slots(self, kind: str) -> int:
        return int(self._ray.cluster_resources().get(kind, 0))

    def _largest_memory(self) -> int:
        return max((int(node["Resources"].get("memory", 0)) for node in self._ray.nodes() if node["Alive"]), default=0)

    def close(self) -> None:
        """Leave the cluster, which ends the tasks of this engine."""
        self._ray.shutdown()


def _work(device: str, work: Callable[[Worker, Item], Value], item: Item) -> tuple[Value | None, BaseException | None]:
    """(value, None), or (None, the item's own error), which Ray must not take for a lost worker."""
    import ray

    use_one_thread()
    context = ray.get_runtime_context()
    slot, chosen = f"process {os.getpid()}", torch.device(device)
    if device == "cuda":
        chosen = torch.device("cuda", 0)
        slot = f"cuda:{context.get_accelerator_ids()['GPU'][0]}"  # the node's number; the task sees this GPU alone
    worker = Worker(f"{ray.util.get_node_ip_address()} {slot}", chosen)
    try:
        return work(worker, item), None
    except Exception as error:
        error.add_note(traceback.format_exc())
        return None, error


def _connected(address: str | None, cores: int) -> Any:
    if address is not None and address.startswith("ray://"):
        raise InputError(f"address {address!r}: expected HOST:PORT of the cluster's head, or auto")
    if address not in (None, "auto"):
        _check_reachable(address)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if _on_loopback(address):
        # Ray's name for "this machine is the whole cluster": its ports are then bound to loopback.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    if address is None:
        # Other users of this machine cannot send work to the cluster: it requires a secret of this process.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        import ray
    except ImportError:
        raise InputError("the engine ray needs the package ray: pip install 'gcwm-viz[cluster]'") from None
    options: dict[str, Any] = {"address": address}
    if address is None:
        options = {"address": "local", "num_cpus": cores, "include_dashboard": False}
        options["object_store_memory"] = STORE_BYTES
    try:
        ray.init(**options, log_to_driver=False, configure_logging=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise InputError(f"no Ray cluster at {address or 'this machine'}: {first_line(error)}") from None
    return ray


def _check_reachable(address: str) -> None:
    """Fails within seconds, where Ray itself would retry for many minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, ValueError) as error:
        raise InputError(f"no Ray cluster at {address}: {error}") from None


def _on_loopback(address: str | None) -> bool:
    host = "127.0.0.1" if address is None else address.rpartition(":")[0]
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
