"""One module of a LoRA adapter: Δ = s B A, and the forms of LoRA that need the weight W which it was trained on.

Scaling s is lora_alpha / r, or lora_alpha / √r under rsLoRA (arXiv 2312.03732), with per-module ranks and alphas by
PEFT's pattern rule. B A has the Linear layout (d_out, d_in) whether or not the module stores its weight transposed
(fan_in_fan_out). Besides:

- AdaLoRA (arXiv 2303.10512): Δ = s B diag(E) A with s = lora_alpha / (init_r + 10⁻⁵), whatever rank was kept;
- DoRA (arXiv 2402.09353): Δ = m ⊙ (W + s B A) / ‖W + s B A‖ − W, norms of rows, m one number a row: dense;
- PiSSA (arXiv 2404.02948) and OLoRA (arXiv 2406.01775) train beside W − s B₀A₀, so that Δ = s (B A − B₀A₀). The start
  follows from W: s B₀A₀ is its best approximation of rank r, or s times the first r terms of its QR decomposition.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gcwm_viz.checkpoints.header import TensorInfo
from gcwm_viz.checkpoints.patterns import by_pattern, positive
from gcwm_viz.checkpoints.reader import read_tensor
from gcwm_viz.errors import InputError
from gcwm_viz.linalg.lowrank import LowRank, Update, accumulate, stacked

_RANK_EPS = 1e-5
"""What peft adds to AdaLoRA's rank before it divides."""


def _pissa(weight_oi: Tensor, rank: int, scaling: float) -> LowRank:
    """s B₀A₀ = U_r Σ_r V_rᵀ: the scaling cancels."""
    u_or, s_r, v_ri = torch.linalg.svd(weight_oi, full_matrices=False)
    return LowRank(u_or[:, :rank] * s_r[:rank], v_ri[:rank])


def _olora(weight_oi: Tensor, rank: int, scaling: float) -> LowRank:
    """s B₀A₀ = s Q_r R_r."""
    q_or, r_ri = torch.linalg.qr(weight_oi)
    return LowRank(scaling * q_or[:, :rank], r_ri[:rank])


_STARTS = {"pissa": _pissa, "olora": _olora}


@dataclass(frozen=True)
class LoraModule:
    """One adapted module: factors ``a`` (r, d_in) and ``b`` (d_out, r), and the factor that multiplies B A.

    ``e`` (r, 1): AdaLoRA's singular values. ``magnitude`` (d_out,): DoRA's m. ``start``: "pissa", "olora" or none.
    """

    module: str
    a: TensorInfo
    b: TensorInfo
    scaling: float
    e: TensorInfo | None = None
    magnitude: TensorInfo | None = None
    start: str = ""

    @property
    def shape(self) -> tuple[int, int]:
        """(d_out, d_in) in Linear layout."""
        return self.b.shape[0], self.a.shape[1]

    @property
    def rank(self) -> int | None:
        """Columns of the update's factors; None where it is dense."""
        if self.magnitude is not None:
            return None
        return 2 * self._rank if self.start else self._rank

    @property
    def _rank(self) -> int:
        return self.a.shape[0]

    @property
    def tensors(self) -> list[TensorInfo]:
        return [info for info in (self.a, self.b, self.e, self.magnitude) if info is not None]

    @property
    def nbytes(self) -> int:
        return sum(info.nbytes for info in self.tensors)

    @property
    def needs_weight(self) -> bool:
        """Whether Δ depends on the weight that the adapter was trained on."""
        return self.magnitude is not None or bool(self.start)

    def read(self, dtype: torch.dtype, weight: Callable[[], Tensor]) -> Update:
        """The update in ``dtype``, the scaling multiplied into the left factor. ``weight`` reads W, (d_out, d_in)."""
        left_or = read_tensor(self.b).to(dtype) * self.scaling
        if self.e is not None:
            left_or *= read_tensor(self.e).to(dtype).mT
        factors = LowRank(left_or, read_tensor(self.a).to(dtype))
        if not self.needs_weight:
            return factors
        weight_oi = weight().to(dtype)
        if self.start:
            start = _STARTS[self.start](weight_oi, self._rank, self.scaling)
            factors = stacked([factors, LowRank(-start.left_or, start.right_ri)])
        if self.magnitude is None:
            return factors
        direction_oi = accumulate(factors, weight_oi.clone())
        magnitude_o = read_tensor(self.magnitude).to(dtype)
        return direction_oi.mul_((magnitude_o / direction_oi.norm(dim=1))[:, None]).sub_(weight_oi)


def lora_module(
    module: str, parts: dict[str, TensorInfo], config: dict[str, Any], file: Path, start: str
) -> LoraModule:
    """The module whose tensors are ``parts`` (A, B, E, magnitude). Raises InputError for a lone factor, and for tensors
    that do not fit each other or the config."""
    adaptive = config.get("peft_type") == "ADALORA"
    a, b = factor_pair(parts)
    if adaptive and "E" not in parts:
        raise InputError(f"{a.path}: tensor {a.name!r} has no partner, expected lora_E too")
    if ("magnitude" in parts) != bool(config.get("use_dora")):
        found = "has no lora_magnitude_vector beside it" if config.get("use_dora") else "belongs to a DoRA adapter"
        info = parts.get("magnitude", a)
        raise InputError(
            f"{info.path}: tensor {info.name!r} {found}, expected one where {file.name} sets use_dora and only there"
        )
    if "E" in parts and not adaptive:
        raise InputError(
            f"{parts['E'].path}: tensor {parts['E'].name!r} belongs to an AdaLoRA adapter, expected lora_A and "
            f"lora_B as {file.name} says"
        )
    e, magnitude = parts.get("E"), parts.get("magnitude")
    if e is not None:
        _check_matrix(e)
    if magnitude is not None and (not magnitude.is_floating or magnitude.shape != b.shape[:1]):
        raise InputError(
            f"{magnitude.path}: tensor {magnitude.name!r} has dtype {magnitude.dtype} and shape {magnitude.shape}, "
            f"expected one floating number for each of {b.shape[0]} rows"
        )
    if adaptive:  # its rank_pattern holds masks, and what they leave is stored
        rank: float = a.shape[0]
        scaling = positive(module, config, "lora_alpha", file) / (positive(module, config, "init_r", file) + _RANK_EPS)
    else:
        rank, scaling = rank_of(module, config, file), scaling_of(module, config, file)
    if not (a.shape[0] == b.shape[1] == rank) or (e is not None and e.shape != (rank, 1)):
        raise InputError(
            f"{a.path}: factors of {module!r} have shapes {a.shape} and {b.shape}, "
            f"expected rank {rank:g} from {file.name}"
        )
    return LoraModule(module, a, b, scaling, e, magnitude, start)


def factor_pair(parts: dict[str, TensorInfo]) -> tuple[TensorInfo, TensorInfo]:
    """A and B. Raises InputError for a lone factor, and for one that is no floating matrix."""
    for side in ("A", "B"):
        if side not in parts:
            lone = next(iter(parts.values()))
            raise InputError(f"{lone.path}: tensor {lone.name!r} has no partner, expected lora_{side} too")
        _check_matrix(parts[side])
    return parts["A"], parts["B"]


def _check_matrix(info: TensorInfo) -> None:
    if not info.is_floating or len(info.shape) != 2:
        raise InputError(
            f"{info.path}: tensor {info.name!r} must be a 2-D floating matrix, found {info.dtype} {info.shape}"
        )


def rank_of(module: str, config: dict[str, Any], file: Path) -> float:
    """Raises InputError where the config has no positive number for the rank of ``module``."""
    return by_pattern(module, config, "rank_pattern", "r", file)


def scaling_of(module: str, config: dict[str, Any], file: Path) -> float:
    """What multiplies B A of a module, or of a parameter by its full name. Raises InputError as :func:`rank_of`."""
    rank, alpha = rank_of(module, config, file), by_pattern(module, config, "alpha_pattern", "lora_alpha", file)
    return alpha / (rank**0.5 if config.get("use_rslora") else rank)
