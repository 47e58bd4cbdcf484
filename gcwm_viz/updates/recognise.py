"""What a folder holds, in words, from names and headers alone: for a person who chooses among folders."""

from dataclasses import dataclass
from pathlib import Path

from gcwm_viz.checkpoints.header import read_json_object
from gcwm_viz.checkpoints.index import ADAPTER_CONFIG, CheckpointIndex, has_model
from gcwm_viz.checkpoints.quantised import check_not_quantised
from gcwm_viz.errors import InputError
from gcwm_viz.updates.sequence import named, states_in
from gcwm_viz.updates.sources import is_delta

NOTHING = "no weights"
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf")


@dataclass(frozen=True)
class Content:
    """``kind``: a few words. ``update``, ``base``: whether the folder may be one of a run; its check says whether it
    fits. ``problem``: why it is neither, with the way on; empty for a folder that merely holds other folders."""

    kind: str
    update: bool = False
    base: bool = False
    problem: str = ""


def recognise(folder: Path) -> Content:
    """What ``folder`` holds. Raises nothing for a folder that cannot be read: that is its problem."""
    try:
        return _content(folder)
    except InputError as error:
        return Content("cannot be used", problem=str(error))
    except OSError as error:
        return Content("cannot be read", problem=f"{folder}: {error.strerror or error}")


def _content(folder: Path) -> Content:
    if (folder / ADAPTER_CONFIG).is_file() and not has_model(folder):
        config = read_json_object(folder / ADAPTER_CONFIG, ADAPTER_CONFIG)
        rank = config.get("r")
        words = f", rank {rank}" if type(rank) is int else ""
        return Content(f"{str(config.get('peft_type') or 'unnamed')[:20]} adapter{words}", update=True)
    if not has_model(folder) and (states := states_in(folder)):
        return Content(f"states {named(states)} of one training")
    if not any(file.suffix in _WEIGHTS for file in folder.iterdir() if file.is_file()):
        return Content(NOTHING)
    index = CheckpointIndex.open(folder)
    if is_delta(index):
        return Content(f"update tensors, {len(index.tensors)} of them", update=True)
    check_not_quantised(index)
    model = str(index.config.get("model_type") or "no config.json")[:40]
    return Content(f"checkpoint ({model}), {_amount(index.parameters)} parameters", update=True, base=True)


def _amount(count: int) -> str:
    for unit, one in (("billion", 1e9), ("million", 1e6), ("thousand", 1e3)):
        if count >= one:
            return f"{count / one:.3g} {unit}"
    return str(count)
