"""The merged update of one step as a PEFT LoRA adapter, by truncated SVD of every matrix.

S ≈ B A with A = V_rᵀ (r, d_in), the leading right singular vectors, and B = S V_r (d_out, r): the best approximation of
rank r in the Frobenius norm (Eckart and Young 1936, doi:10.1007/BF02288367), with lora_alpha = r, so that PEFT's
scaling is 1. Energy is ‖·‖_F².
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gcwm_viz.calibration.result import Calibrated
from gcwm_viz.checkpoints.atomic import (
    DTYPES,
    atomic_file,
    atomic_folder,
    stream_safetensors,
    write_bytes,
    write_json,
)
from gcwm_viz.checkpoints.index import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from gcwm_viz.checkpoints.space import check_space
from gcwm_viz.checkpoints.writer import check_outside
from gcwm_viz.continual.store import RunStore
from gcwm_viz.errors import InputError
from gcwm_viz.export.card import CARD, base_name, block, front_matter, settings_block
from gcwm_viz.export.checkpoint import CALIBRATED, input_folders, open_finished
from gcwm_viz.export.modules import module_names
from gcwm_viz.linalg.lowrank import Update, squared_norm, times
from gcwm_viz.linalg.subspace import right_subspace
from gcwm_viz.updates.matrices import MatrixKey


@dataclass(frozen=True)
class Loss:
    """Share of the update's energy that truncation loses, in [0, 1]: over all matrices, and in the worst one.

    ``rank`` is the adapter's; it is below the requested one, ``asked``, where no matrix has that rank.
    """

    rank: int
    asked: int
    total: float
    worst: float
    worst_matrix: str

    @property
    def words(self) -> str:
        clipped = f" (asked for {self.asked}, but no matrix has more)" if self.rank < self.asked else ""
        return (
            f"rank {self.rank}{clipped} leaves out {self.total:.3%} of the update's energy in all, "
            f"and {self.worst:.3%} at worst ({self.worst_matrix})"
        )


def export_adapter(
    store: RunStore,
    step: int,
    out: Path,
    rank: int,
    dtype: torch.dtype = torch.float32,
    calibrated: Calibrated | None = None,
) -> Loss:
    """Writes ``out`` as a PEFT adapter of the run's base and returns what its rank leaves out; with ``calibrated`` that
    model instead of the state after ``step``.

    The adapter's rank is ``rank``, or the largest min(d_out, d_in) of the target matrices where that is less. PEFT
    gives all matrices one rank: one whose own is lower gets columns of zeros. Matrices whose update is zero are not
    adapted, except experts, which are adapted all or none. Raises :class:`InputError` for a rank below 1, an ``out``
    that is not empty or lies in an input, matrices that no adapter can hold (:func:`module_names`), and what
    :func:`open_finished` refuses.
    """
    if rank < 1:
        raise InputError(f"rank must be at least 1, got {rank}")
    store.check_kept("an adapter")
    opened = open_finished(store, step)
    check_outside(out, input_folders(store, opened))
    modules = module_names(opened.base, store.keys)
    asked, rank = rank, min(rank, max(min(key.shape) for key in store.keys))
    size = 4 * rank * sum(sum(key.shape) for key in store.keys)
    check_space(out, size, "the adapter")
    factors: list[tuple[MatrixKey, Tensor, Tensor]] = []
    lost, energy, worst = 0.0, 0.0, (-1.0, "")
    for index, key in enumerate(store.keys):
        state = store.stored_state(index, step) if calibrated is None else calibrated.update(index)
        total = 0.0 if state is None else squared_norm(state)
        if state is None or total == 0:
            continue
        b_or, a_ri = truncated(state, rank)
        error = max(0.0, total - squared_norm(b_or))
        lost, energy, worst = lost + error, energy + total, max(worst, (error / total, key.name))
        factors.append((key, b_or.to(dtype), a_ri.to(dtype)))
    if not factors:
        raise InputError(f"run {store.path}: the update after step {step} is zero, there is nothing to adapt")
    adapted = {key.name for key, _, _ in factors}
    if any(key.name in adapted for key in modules.experts):
        factors += [(key, *_zeros(key, rank, dtype)) for key in modules.experts if key.name not in adapted]
    loss = Loss(rank, asked, lost / energy, *worst)
    tensors = {
        f"base_model.model.{modules.of[key.name]}.lora_{side}.weight": factor
        for key, b_or, a_ri in factors
        for side, factor in (("A", a_ri), ("B", b_or))
    }
    layout = [(name, DTYPES[dtype], tuple(tensor.shape)) for name, tensor in tensors.items()]
    with atomic_folder(out) as partial:
        with atomic_file(partial / ADAPTER_WEIGHTS) as file:
            stream_safetensors(file, layout, tensors.__getitem__, {"format": "pt"}, out / ADAPTER_WEIGHTS)
        write_json(partial / ADAPTER_CONFIG, _config(store, rank, modules.targets([key.name for key, _, _ in factors])))
        write_bytes(partial / CARD, _card(store, step, loss, calibrated).encode())
    return loss


def truncated(state: Update, rank: int) -> tuple[Tensor, Tensor]:
    """B (d_out, rank) and A (rank, d_in) in float64 with B A the best approximation of a non-zero S of that rank."""
    v_ir = right_subspace(state, rank, 1.0).v_ir
    a_ri = v_ir.new_zeros((rank, state.shape[1]))
    a_ri[: v_ir.shape[1]] = v_ir.mT
    return times(state.to(dtype=torch.float64), a_ri.mT), a_ri


def _zeros(key: MatrixKey, rank: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return torch.zeros(key.shape[0], rank, dtype=dtype), torch.zeros(rank, key.shape[1], dtype=dtype)


def _config(store: RunStore, rank: int, targets: list[str]) -> dict[str, object]:
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_name(store),
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": any(key.transposed for key in store.keys),
        "inference_mode": True,
        "init_lora_weights": True,
        "modules_to_save": None,
        "target_modules": targets,
        "use_rslora": False,
    }


def _card(store: RunStore, step: int, loss: Loss, calibrated: Calibrated | None) -> str:
    remark = "" if calibrated is None else f"{CALIBRATED}\n\n"
    front = front_matter(store, "peft", ["merge", "gcwm", "lora"], [base_name(store)], "adapter")
    return (
        f"{front}# Merged update as an adapter\n\nState after step {step} of a continual merge by gcwm_viz (method of "
        f"arXiv 2605.09608), cut by SVD to a LoRA adapter:\n\n{block(loss.words)}\n{remark}Inputs and settings:\n\n"
        f"{settings_block(store, step)}"
    )
