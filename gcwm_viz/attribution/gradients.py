"""Gradients of a loss by the matrices of a model in memory, each used as it arrives and freed at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from gcwm_viz.errors import InputError
from gcwm_viz.linalg.lowrank import LowRank, Update
from gcwm_viz.probes.loss import TaskLoss
from gcwm_viz.probes.merged import OutsideTensor, Weight
from gcwm_viz.updates.matrices import MatrixKey


class SettableModel(Protocol):
    """A model in memory whose ``keys``, tensors by name with their layout, are set to base + Δ; ``weights``: where they
    are, None for a model that has them in other forms. :class:`~gcwm_viz.probes.merged.MergedModel` is one."""

    model: Any
    device: torch.device

    @property
    def keys(self) -> Sequence[MatrixKey | OutsideTensor]: ...
    @property
    def weights(self) -> dict[str, Weight] | None: ...
    def set_updates(self, deltas: Sequence[Update | None]) -> None: ...


class MatrixGradients:
    """∇_{W_k} L of the matrices ``places`` of a model, places among its keys; all other weights get none.

    ``half``: matrix products in bfloat16 (autocast), weights and sums in float32. ``recompute``: each block keeps its
    input alone and computes the rest again in the backward pass (gradient checkpointing, Chen et al. 2016, arXiv
    1604.06174), a third more work for the memory of one block. Beyond the model, memory holds the gradient of one
    parameter at a time: a matrix, or the experts of a layer, which transformers stacks in one.

    Raises :class:`InputError` for a model that has its matrices in other forms, and with ``recompute`` for one whose
    blocks cannot.
    """

    def __init__(
        self, model: SettableModel, places: Iterable[int], *, half: bool = False, recompute: bool = False
    ) -> None:
        if model.weights is None:
            raise InputError(
                f"transformers' {type(model.model).__name__} changes the form of some matrices of the checkpoint when "
                "it loads them, expected each in a parameter or in a part of one: gradients cannot be told apart"
            )
        self._model, self._half = model, half
        self._blocks = _blocks(model.model) if recompute else []
        self._weights: dict[torch.nn.Parameter, list[tuple[int, Weight]]] = {}
        for place in places:
            weight = model.weights[model.keys[place].name]
            self._weights.setdefault(weight.parameter, []).append((place, weight))
        for parameter in model.model.parameters():
            parameter.requires_grad_(False)
            parameter.grad = None  # what a training left there would be added to the first gradient
        for parameter in self._weights:
            parameter.requires_grad_(True)

    def measure(self, loss: TaskLoss, take: Callable[[int, Tensor], None]) -> float:
        """L at the model's present weights. ``take`` is called with a matrix's place and its gradient in Linear layout
        (d_out, d_in), as often as the loss has parts: the gradients of one matrix add up to ∇_{W_k} L."""

        def arrive(weights: list[tuple[int, Weight]], parameter: Tensor) -> None:
            assert parameter.grad is not None
            for place, weight in weights:
                take(place, self._model.keys[place].to_linear(weight.part(parameter.grad)))
            parameter.grad = None

        value = 0.0
        handles = [
            parameter.register_post_accumulate_grad_hook(partial(arrive, weights))
            for parameter, weights in self._weights.items()
        ]
        try:
            with self._recomputing(), torch.autocast(self._model.device.type, torch.bfloat16, enabled=self._half):
                for part in loss.parts(self._model.model, self._model.device):
                    value += float(part.detach())
                    if part.requires_grad:
                        part.backward()
        finally:
            for handle in handles:
                handle.remove()
        return value

    def products(self, loss: TaskLoss, changes: Sequence[Sequence[Update | None]]) -> tuple[float, Tensor]:
        """L, and ⟨∇_{W_k} L, Δ_jk⟩ (j, k) in nats, float64, of several changes of all the model's ``keys``; above zero
        = L rises along the change. One backward pass serves all of them; 0 where a change is None."""
        products_jk = torch.zeros(len(changes), len(self._model.keys), dtype=torch.float64)

        def take(place: int, gradient_oi: Tensor) -> None:
            for j, change in enumerate(changes):
                delta = change[place]
                if delta is not None:
                    products_jk[j, place] += inner(gradient_oi, delta)

        return self.measure(loss, take), products_jk

    @contextmanager
    def _recomputing(self) -> Iterator[None]:
        if not self._blocks:
            yield
            return
        # The model's own switch warns under one name or the other of its versions, and wants training of all of it.
        for block in self._blocks:
            block._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)
            block.gradient_checkpointing = True
            block.training = True  # of the block alone: what it contains, dropout too, stays in evaluation
        try:
            yield
        finally:
            for block in self._blocks:
                block.gradient_checkpointing = block.training = False

    @torch.no_grad()
    def value(self, loss: TaskLoss) -> float:
        """L alone, in the same precision."""
        with torch.autocast(self._model.device.type, torch.bfloat16, enabled=self._half):
            return sum(float(part) for part in loss.parts(self._model.model, self._model.device))


def _blocks(model: torch.nn.Module) -> list[Any]:
    from transformers.modeling_layers import GradientCheckpointingLayer

    blocks = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not blocks:
        raise InputError(f"the blocks of {type(model).__name__} cannot compute their activations again in this version")
    return blocks


def inner(gradient_oi: Tensor, change: Update) -> float:
    """⟨gradient, change⟩, a factored change by its factors: Σ (BᵀG) ∘ A."""
    if isinstance(change, LowRank):
        left_or, right_ri = (f.to(gradient_oi) for f in (change.left_or, change.right_ri))
        return float(((left_or.mT @ gradient_oi) * right_ri).sum(dtype=torch.float64))
    return float((gradient_oi * change.to(gradient_oi)).sum(dtype=torch.float64))
