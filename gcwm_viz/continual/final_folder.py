"""A folder of final merges: what the final state of one sequence of updates takes, matrix by matrix.

    final.json         its updates, settings and plug-ins
    00000.safetensors  Δ_merge of the steps that enter the final state (``merged.3``, see ``continual/branches.py``)

A file is committed by renaming, so what is there is complete.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from gcwm_viz.checkpoints.atomic import write_json, write_safetensors
from gcwm_viz.checkpoints.header import read_header, read_json_object
from gcwm_viz.continual.branches import read_branches
from gcwm_viz.continual.config import RunSettings, as_written_now, difference
from gcwm_viz.continual.sequence import AFTER_MERGE, ContinualConfig
from gcwm_viz.continual.state import entering, state_of
from gcwm_viz.errors import InputError, named_write_errors
from gcwm_viz.linalg.lowrank import Update
from gcwm_viz.merging.merge import MERGED
from gcwm_viz.plugins.record import PluginEntry, check_same, entries_for
from gcwm_viz.updates.matrices import MatrixKey

FORMAT = "gcwm_viz.final"


@dataclass(frozen=True)
class FinalFolder:
    """``updates``: names in order of arrival. ``settings``: a constant η in them needs the last step alone; a folder
    that was filled for a decaying one serves both."""

    path: Path
    updates: tuple[str, ...]
    settings: RunSettings

    @property
    def steps(self) -> int:
        return len(self.updates)

    def begin(self) -> None:
        """Create the folder and say what it is for.

        Raises :class:`InputError` where it is there for other updates, settings or plug-ins.
        """
        file = self.path / "final.json"
        about = {"format": FORMAT, "updates": list(self.updates), "settings": _of_merge(self.settings.to_dict())}
        if not file.is_file():
            with named_write_errors(self.path):
                self.path.mkdir(parents=True, exist_ok=True)
            plugins = [entry.to_json() for entry in entries_for(self.settings.method)]
            write_json(file, about | ({"plugins": plugins} if plugins else {}))
            return
        stored = read_json_object(file, "final.json")
        try:
            entries = [PluginEntry.from_json(entry) for entry in stored.pop("plugins", [])]
            stored["settings"] = _of_merge(as_written_now(stored["settings"]))
            changed = difference(stored, about)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{file} lacks or garbles an entry ({error!r}); use another output folder") from None
        if changed:
            raise InputError(f"{self.path} holds other merges than its name says: {changed}; use another output folder")
        check_same(self.settings.method, entries, str(self.path))

    def holds(self, index: int) -> bool:
        """Whether the merges of one matrix are there, by the file's header."""
        try:
            header, _ = read_header(self._file(index))
        except InputError:
            return False
        return set(map(str, self._entering)) <= {name.rpartition(".")[2] for name in header}

    def write(self, index: int, key: MatrixKey, tensors: Mapping[str, Tensor]) -> None:
        """The merges of one matrix, as :func:`~gcwm_viz.continual.branches.stored_tensors` names them."""
        write_safetensors(self._file(index), tensors, {"matrix": key.name})

    def state(self, index: int, key: MatrixKey, continual: ContinualConfig) -> Update:
        """S_T of one matrix under ``continual``, which differs from the settings in η and its decay alone."""

        def merged(step: int) -> Update:
            file = self._file(index)
            return read_branches(file, step, key.shape, [MERGED], "the same command").updates[MERGED]

        return state_of(self.steps, merged, continual)

    def states(self, keys: Sequence[MatrixKey], continual: ContinualConfig) -> list[Update | None]:
        """S_T of every matrix."""
        return [self.state(index, key, continual) for index, key in enumerate(keys)]

    @property
    def _entering(self) -> range:
        return entering(self.steps, self.settings.continual)

    def _file(self, index: int) -> Path:
        return self.path / f"{index:05d}.safetensors"


def _of_merge(settings: Any) -> Any:
    """Settings, as a dictionary, without those that act after the merge."""
    continual = {name: value for name, value in settings["continual"].items() if name not in AFTER_MERGE}
    return settings | {"continual": continual}
