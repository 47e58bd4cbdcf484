"""Experts that a checkpoint stacks in one tensor (experts, d_out, d_in): no matrices, so they are not merged."""

from gcwm_viz.checkpoints.header import TensorInfo
from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.errors import InputError
from gcwm_viz.updates.source import UpdateSource
from gcwm_viz.updates.towers import block_position

# Names of the number of experts per layer in configurations.
_COUNTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts", "num_routed_experts")


def stacked_experts(base: CheckpointIndex) -> dict[str, TensorInfo]:
    """The stacks of ``base`` by name: in a decoder block, with more than two dimensions, and either called experts or
    with as many entries as its config has experts (a convolution's kernel has neither)."""
    configs = [config for config in (base.config, base.config.get("text_config")) if isinstance(config, dict)]
    counts = {config[name] for config in configs for name in _COUNTS if type(config.get(name)) is int}
    return {
        name: info
        for name, info in base.tensors.items()
        if len(info.shape) > 2
        and block_position(name) is not None
        and ("experts" in name or (info.shape[0] in counts and "conv" not in name))
    }


def check_no_stacks(base: CheckpointIndex, source: UpdateSource) -> None:
    """Raises InputError when ``source`` holds experts that the base stacks: headers do not show whether they
    changed, and a change would be lost. An update that leaves them out, such as an adapter on the attention, is
    merged."""
    covered = source.shapes().keys() | source.others().keys()
    for name, info in stacked_experts(base).items():
        if name in covered:
            raise InputError(
                f"{source.path}: tensor {name!r} stacks the experts of a layer in shape {info.shape}, expected one 2-D "
                "weight per expert (experts.0.….weight); stacked mixture-of-experts layers are not merged, but an "
                "adapter or a folder of update tensors without them is"
            )
