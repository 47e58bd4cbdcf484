"""DARE (arXiv 2311.03099): drop entries of each update at random, rescale the rest by 1/(1 − p), then merge.

The mask of an update depends on the seed, the matrix and the update's name alone: not on the order of matrices or
updates, nor on the device.
"""

import hashlib
import json

import torch
from torch import Tensor

from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.merging.settings import MethodSettings
from gcwm_viz.merging.step import MergeStep
from gcwm_viz.merging.ties import trim_elect_mean


def dare(step: MergeStep, config: GCWMConfig) -> Tensor:
    """Σ_i ω_i Δ̃_i (d_out, d_in), Δ̃_i the dropped and rescaled update."""
    total_oi = step.zeros(config)
    for name, delta, weight in step.active_dense(config):
        total_oi.add_(drop_and_rescale(delta, step.matrix, name, step.options), alpha=weight)
    return total_oi


def dare_ties(step: MergeStep, config: GCWMConfig) -> Tensor:
    """TIES, its trimming included, of the dropped and rescaled updates (d_out, d_in).

    Trimming counts the entries of the whole matrix, so it changes nothing while 1 − p stays below ``ties_keep``.
    """
    active = step.active_dense(config)
    if not active:
        return step.zeros(config)
    sparse = [drop_and_rescale(delta, step.matrix, name, step.options) for name, delta, _ in active]
    return trim_elect_mean(sparse, [weight for _, _, weight in active], step.options.ties_keep)


def drop_and_rescale(delta_oi: Tensor, matrix: str, update: str, options: MethodSettings) -> Tensor:
    """m ⊙ Δ / (1 − p) with m ~ Bernoulli(1 − p) for each entry: the expectation is Δ."""
    if options.dare_drop == 0:
        return delta_oi
    key = json.dumps([options.dare_seed, matrix, update]).encode()
    generator = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(key).digest()[:8], "big") >> 1)
    keeps = torch.rand(delta_oi.shape, generator=generator) >= options.dare_drop
    return torch.where(keeps.to(delta_oi.device), delta_oi / (1 - options.dare_drop), 0.0)
