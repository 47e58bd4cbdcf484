"""Weights stored quantised: codes that mean nothing without their scales, so no Δ can be computed from them."""

from gcwm_viz.checkpoints.header import FLOAT8, TensorInfo
from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.errors import InputError

# What quantisers store beside or in place of a weight: GPTQ and AWQ; bitsandbytes; fp8 and compressed-tensors.
_PARTS = (
    *(".qweight", ".qzeros", ".g_idx"),
    *(".absmax", ".quant_map", ".nested_absmax", ".SCB"),
    *(".weight_scale", ".weight_scale_inv", ".weight_packed", ".weight_zero_point"),
)
_CODES = (".weight", "_blocks")  # the latter MXFP4's


def quantisation_method(index: CheckpointIndex) -> str:
    """``quant_method`` of config.json; empty where the config names none."""
    settings = index.config.get("quantization_config") or index.config.get("compression_config")
    if not isinstance(settings, dict) or not settings:
        return ""
    return str(settings.get("quant_method") or "unknown method")[:50]


def is_quantised(info: TensorInfo) -> bool:
    """Whether a tensor holds codes or their scales, by name and dtype; buffers of integers are neither."""
    return info.name.endswith(_PARTS) or (info.name.endswith(_CODES) and not info.is_floating and len(info.shape) > 1)


def check_not_quantised(index: CheckpointIndex) -> None:
    """Raises InputError, naming the tensor, the method and a remedy, when weights of ``index`` are quantised.

    A quantisation that the config alone names is accepted: quantised models that were merged or dequantised keep the
    entry.
    """
    info = next((info for info in index.tensors.values() if is_quantised(info)), None)
    if info is None:
        return
    method = quantisation_method(index)
    ours = any(info.dtype in FLOAT8 or info.name.endswith("_blocks") for info in index.tensors.values())
    remedy = (
        f" with `gcwm-viz dequantise {index.root} --out NEW_DIR`"
        if ours
        else ": load them with transformers, call model.dequantize() and save_pretrained(NEW_DIR)"
    )
    raise InputError(
        f"{info.path}: these weights are quantised ({f'{method}, ' if method else ''}tensor {info.name!r} of dtype "
        f"{info.dtype} and shape {info.shape}), expected F64, F32, F16 or BF16; dequantise them first{remedy}, or "
        "take the original weights"
    )
