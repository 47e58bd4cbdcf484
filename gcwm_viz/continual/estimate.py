"""The needs of a run before it starts: operations, memory, disk, and a time from a measured rate of products."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from gcwm_viz.continual.active_set import active_set
from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.state import entering
from gcwm_viz.engines.local import default_workers, local_devices
from gcwm_viz.merging.registry import get_method
from gcwm_viz.updates.matrices import MatrixKey

EIGH_COST = 25.0
"""Operations of a symmetric eigendecomposition over n³, eigenvectors included, in units of a product's."""

STEP_SECONDS = 0.05
"""Seconds of a step of a small matrix besides its products: about the lab's CPU time over its matrix steps."""


@dataclass(frozen=True)
class Estimate:
    """flops: floating-point operations of all steps. memory_bytes: tensors of the largest matrix at its last step.
    disk_bytes: branches of all steps in float32. seconds: flops over the measured rate; an order of magnitude."""

    flops: float
    memory_bytes: int
    disk_bytes: int
    seconds: float


def estimate(
    keys: Sequence[MatrixKey],
    updates: int,
    settings: RunSettings,
    device: torch.device,
    ranks: Sequence[int | None] | None = None,
    states: Sequence[Sequence[int | None]] | None = None,
) -> Estimate:
    """For updates that touch every matrix. ``ranks``: for each matrix, the joint rank of its updates where all of them
    are adapters, else None; without it every update counts as dense. ``states``: as :func:`stored_bytes` takes them."""
    widths = _widths(keys, settings, ranks)
    flops = sum(_operations(key.shape, updates, settings, k) for key, k in zip(keys, widths, strict=True))
    memory = matrix_bytes(keys, updates, settings, ranks)
    devices = len(local_devices(device))
    small = STEP_SECONDS * len(keys) * updates / (devices * default_workers(device))
    seconds = flops / (devices * matmul_rate(device)) + small
    return Estimate(flops, max(memory, default=0), stored_bytes(keys, updates, settings, ranks, states), seconds)


def matrix_bytes(
    keys: Sequence[MatrixKey], updates: int, settings: RunSettings, ranks: Sequence[int | None] | None = None
) -> list[int]:
    """Bytes of tensors that each matrix takes at its last step; ``ranks`` as :func:`estimate` takes them."""
    widths = _widths(keys, settings, ranks)
    return [
        memory_of(key.shape, updates, settings) if k is None else 8 * (updates + 10) * sum(key.shape) * k
        for key, k in zip(keys, widths, strict=True)
    ]


def stored_bytes(
    keys: Sequence[MatrixKey],
    updates: int,
    settings: RunSettings,
    ranks: Sequence[int | None] | None = None,
    states: Sequence[Sequence[int | None]] | None = None,
) -> int:
    """Bytes of the tensors that a run stores: both branches of every step in float32, or the merged update alone.

    ``states``: for each matrix the columns of every given state's factors, None for a dense one; a run that describes
    states stores them instead of a merge.
    """
    if states is not None:
        first = 0 if settings.continual.keep == "all" else -1
        return 4 * sum(
            key.parameters if columns is None else columns * sum(key.shape)
            for key, steps in zip(keys, states, strict=True)
            for columns in steps[first:]
        )
    steps = updates if settings.continual.keep == "all" else 1
    return _stored(keys, _widths(keys, settings, ranks), steps, len(get_method(settings.method).branches))


def final_bytes(
    keys: Sequence[MatrixKey], updates: int, settings: RunSettings, ranks: Sequence[int | None] | None = None
) -> int:
    """Bytes of Δ_merge of the steps that enter the final state, in float32."""
    return _stored(keys, _widths(keys, settings, ranks), len(entering(updates, settings.continual)), 1)


def _stored(keys: Sequence[MatrixKey], widths: Sequence[int | None], steps: int, branches: int) -> int:
    total = 0
    for key, width in zip(keys, widths, strict=True):
        d_out, d_in = key.shape
        total += steps * (branches * key.parameters if width is None else width * (branches * d_out + d_in))
    return 4 * total


def _widths(
    keys: Sequence[MatrixKey], settings: RunSettings, ranks: Sequence[int | None] | None
) -> Sequence[int | None]:
    """Columns of a factored merge: in the closed form, of adapters, where thin enough; else None."""
    if ranks is None or not get_method(settings.method).factored(settings.gcwm):
        return [None] * len(keys)
    return [k if k is not None and k <= key.shape[1] else None for key, k in zip(keys, ranks, strict=True)]


def _operations(shape: tuple[int, int], updates: int, settings: RunSettings, width: int | None) -> float:
    if width is None:
        return flops_of(shape, updates, settings)
    # Some twenty products of the factors with themselves per step, in float64, and roots of the union's size.
    return updates * (2 * 20 * 2.0 * sum(shape) * width**2 + 2 * 10 * updates * EIGH_COST * width**3)


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
    stored = updates if settings.continual.keep == "all" else 1
    matrices = updates + stored * len(get_method(settings.method).branches)
    # In float32: updates, stored branches, states and their differences. In float64: the sum, one update, its
    # difference from it, two gradients, solution, right-hand side and a product; H, its copy, its factor and LAPACK's
    # workspace.
    return 4 * (matrices + 8) * d_out * d_in + 8 * (8 * d_out * d_in + 4 * d_in**2)
