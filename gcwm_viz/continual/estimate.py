"""What a run will need before it starts: operations, memory, disk and a time from a measured multiplication rate."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.memory import active_set
from gcwm_viz.engines.local import default_workers, local_devices
from gcwm_viz.updates.matrices import MatrixKey

EIGH_COST = 25.0
"""Operations of a symmetric eigendecomposition over n³, eigenvectors included, at the rate of a product."""

STEP_SECONDS = 0.05
"""What a step of a small matrix takes beside its products: about the lab's processor time over its matrix steps."""


@dataclass(frozen=True)
class Estimate:
    """flops: floating-point operations of all steps. memory_bytes: tensors of the largest matrix at its last step.
    disk_bytes: branches of all steps in float32. seconds: flops over the measured rate; an order of magnitude."""

    flops: float
    memory_bytes: int
    disk_bytes: int
    seconds: float


def estimate(keys: Sequence[MatrixKey], updates: int, settings: RunSettings, device: torch.device) -> Estimate:
    """For dense updates that touch every matrix; adapters need less."""
    flops = sum(flops_of(key.shape, updates, settings) for key in keys)
    largest = max((memory_of(key.shape, updates, settings) for key in keys), default=0)
    devices = len(local_devices(device))
    small = STEP_SECONDS * len(keys) * updates / (devices * default_workers(device))
    seconds = flops / (devices * matmul_rate(device)) + small
    return Estimate(flops, largest, stored_bytes(keys, updates, settings), seconds)


def stored_bytes(keys: Sequence[MatrixKey], updates: int, settings: RunSettings) -> int:
    """Bytes of the tensors that a run keeps: both branches of every step in float32, or the merged update alone."""
    branches = 2 if settings.method == "gcwm" else 1
    steps = updates if settings.continual.keep == "all" else 1
    return 4 * branches * steps * sum(key.parameters for key in keys)


def matmul_rate(device: torch.device, size: int = 768, seconds: float = 0.15) -> float:
    """Measured float32 operations per second of a square product."""
    a = torch.randn(size, size, generator=torch.Generator().manual_seed(0)).to(device)
    a @ a
    count, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        a @ a
        if device.type == "cuda":
            torch.cuda.synchronize()
        count += 1
    return count * 2.0 * size**3 / (time.perf_counter() - begin)


def flops_of(shape: tuple[int, int], updates: int, settings: RunSettings) -> float:
    """Floating-point operations of one matrix at all steps; those in float64 count twice."""
    d_out, d_in = shape
    side = min(d_out, d_in)
    subspace = 2.0 * 2 * d_out * d_in * side + 2 * EIGH_COST * side**3  # float64 counts twice
    total = 2 * updates * subspace  # every update once, the state at every step
    config = settings.gcwm
    for step in range(1, updates + 1):
        m = len(active_set(step, settings.continual).weights)
        build = 2 * m * 4.0 * d_out * d_in**2
        solve = 2.0 * d_out * d_in**2 * (config.iters if config.solver == "adam" else 2) + d_in**3 / 3
        total += build * (2 if config.solver == "adam" else 1) + 2 * solve
    return total


def memory_of(shape: tuple[int, int], updates: int, settings: RunSettings) -> int:
    """Bytes of tensors of one matrix at its last step."""
    d_out, d_in = shape
    kept = updates if settings.continual.keep == "all" else 1
    single = updates + (2 * kept if settings.method == "gcwm" else kept)  # updates, and results of every step
    # Branches, states and their differences in float32. In float64: total, one update in work, its difference, two
    # gradients, solution, right-hand side and a product; H, its copy, factor and what LAPACK takes.
    return 4 * (single + 8) * d_out * d_in + 8 * (8 * d_out * d_in + 4 * d_in**2)
