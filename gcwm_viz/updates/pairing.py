"""A base and its updates, paired by tensor name and shape before any weight is read."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.errors import InputError
from gcwm_viz.updates.adapter import AdapterUpdate
from gcwm_viz.updates.choice import Choice
from gcwm_viz.updates.coverage import Coverage
from gcwm_viz.updates.experts import check_experts
from gcwm_viz.updates.groups import Groups
from gcwm_viz.updates.matrices import MatrixKey, is_target, target_matrices
from gcwm_viz.updates.remarks import model_warnings, update_notes, update_warnings
from gcwm_viz.updates.sequence import sequence_warning
from gcwm_viz.updates.source import UpdateSource
from gcwm_viz.updates.sources import CheckpointUpdate, open_update

__all__ = ["Plan", "open_update", "plan", "target_matrices"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run over these inputs would do. ``notes`` report what is expected but worth knowing, ``warnings`` what
    is probably a mistake. ``parameters`` counts the target matrices that at least one update touches; ``outside``: the
    base's tensors that are no target, by group."""

    base: str
    keys: list[MatrixKey]
    active: list[MatrixKey]
    updates: list[Coverage]
    parameters: int
    base_parameters: int
    bytes_to_read: int
    outside: dict[str, int]
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def coverage(self) -> list[dict[str, object]]:
        """One row of counts per update, in order of arrival."""
        return [update.row() for update in self.updates]

    @property
    def families(self) -> list[dict[str, object]]:
        """One row per family and shape: number of target matrices, and of those that each update touches."""
        rows: dict[tuple[str, tuple[int, int]], dict[str, object]] = {}
        touched = {update.update: set(update.touched) for update in self.updates}
        for key in self.keys:
            empty = {"family": key.family, "d_out": key.shape[0], "d_in": key.shape[1], "matrices": 0}
            row = rows.setdefault((key.family, key.shape), {**empty, **dict.fromkeys(touched, 0)})
            row["matrices"] = int(str(row["matrices"])) + 1
            for name, names in touched.items():
                row[name] = int(str(row[name])) + (key.name in names)
        return list(rows.values())


def plan(base: CheckpointIndex, updates: Sequence[UpdateSource], choice: Choice | None = None) -> Plan:
    """Pairs every update with the base by headers alone, but for sampled bytes that tell a checkpoint from the base,
    and for an adapter's tensors up to the first matrix that it changes. ``choice``: which matrices are targets.

    Raises InputError for no update, two updates of one name, another architecture, an adapter for another base, a
    target matrix of another shape (both shapes named) or of a non-floating dtype, an update of stacked experts, one
    that touches no target matrix, and an adapter that changes none.
    """
    keys = target_matrices(base, choice)
    if not updates:
        raise InputError(f"{base.root}: expected at least one update of this base, found none")
    for source in updates:
        first = next(earlier for earlier in updates if earlier.name == source.name)
        if first is not source:
            raise InputError(f"{source.path}: the update name {source.name!r} is already taken by {first.path}")
    notes: list[str] = []
    warnings: list[str] = []
    coverages = [_cover(base, source, keys, notes, warnings) for source in updates]
    by_path: dict[str, str] = {}
    for source in updates:
        earlier_name = by_path.setdefault(str(source.path.resolve()), source.name)
        if earlier_name != source.name:
            warnings.append(f"{source.name} and {earlier_name} are the same folder, {source.path}")
    warnings += model_warnings(base, keys, coverages)
    warnings += filter(None, [sequence_warning(source.path for source in updates)])
    targets = {key.name for key in keys}
    touched = {name for coverage in coverages for name in coverage.touched}
    active = [key for key in keys if key.name in touched]
    if len(active) < len(keys):
        notes.append(f"{len(keys) - len(active)} of {len(keys)} target matrices are touched by no update and stay")
    return Plan(
        base=str(base.root),
        keys=keys,
        active=active,
        updates=coverages,
        parameters=sum(key.parameters for key in active),
        base_parameters=base.parameters,
        bytes_to_read=sum(coverage.bytes_to_read for coverage in coverages),
        outside=Groups(base).counts(name for name in base.tensors if name not in targets),
        notes=notes,
        warnings=warnings,
    )


def _cover(
    base: CheckpointIndex, source: UpdateSource, keys: list[MatrixKey], notes: list[str], warnings: list[str]
) -> Coverage:
    for part in source.parts:
        check_experts(base, part)
        _check_architecture(base, part, keys)
    touched = source.touched(keys)
    for key in touched:
        source.check(key)
    if isinstance(source, AdapterUpdate):
        _check_trained(source, touched)
    targets = {key.name for key in keys}
    shapes = source.shapes()
    others = {name: shape for name, shape in shapes.items() if name not in targets} | source.others()
    ignored = [name for name in others if base.holds(name)]
    extra = [name for name in others if not base.holds(name)]
    resized = [
        (name, others[name], base.stored(name).shape) for name in ignored if others[name] != base.stored(name).shape
    ]
    coverage = Coverage(
        update=source.name,
        kind=source.kind,
        path=str(source.path),
        touched=[key.name for key in touched],
        missing=[key.name for key in keys if key.name not in shapes],
        ignored=ignored,
        extra=extra,
        resized=resized,
        bytes_to_read=sum(source.nbytes(key) for key in touched),
        strength=source.strength,
    )
    notes += [f"{source.name}: {note}" for note in update_notes(base, source, coverage, len(keys))]
    warnings += [f"{source.name}: {warning}" for warning in update_warnings(base, source, coverage, len(keys))]
    return coverage


def _check_trained(source: AdapterUpdate, touched: list[MatrixKey]) -> None:
    """Raises InputError for an adapter as it was initialised (B = 0). One of the smallest matrices shows that it is
    not; only an adapter of zeros is read to the end."""
    if all(source.delta(key) is None for key in sorted(touched, key=lambda key: key.parameters)):
        raise InputError(
            f"{source.path}: the update {source.name!r} is zero in each of its {len(touched)} target matrices, as an "
            "adapter is before its training; expected one that changes at least one matrix"
        )


def _check_architecture(base: CheckpointIndex, source: UpdateSource, keys: list[MatrixKey]) -> None:
    if isinstance(source, CheckpointUpdate):
        _check_config(base, source.index)
        own = source.tensors
        missing = [key.name for key in keys if key.name not in own]
        foreign = [name for name in own if not base.holds(name) and is_target(own[name])]
        if foreign and missing:
            raise InputError(
                f"{source.path}: another architecture, expected the base's tensor {missing[0]!r}, "
                f"found {foreign[0]!r} instead"
            )
    if isinstance(source, AdapterUpdate):
        source.check_modules()
    if source.touched(keys):
        return
    names = list(source.shapes())
    found = repr(names[0]) if names else f"{len(source.index.tensors)} tensors outside them"
    raise InputError(
        f"{source.path}: the update {source.name!r} touches no target matrix, expected at least one of {len(keys)} "
        f"({keys[0].name!r}, …), found {found}"
    )


def _check_config(base: CheckpointIndex, own: CheckpointIndex) -> None:
    """Raises InputError for a model of another type or depth; a language model and a model around it are of one type
    where the latter's ``text_config`` says so, and ``qwen2_vl`` contains a ``qwen2``."""

    def differ(expected: object, found: object, setting: str) -> None:
        raise InputError(
            f"{own.config_file}: another architecture, expected {setting} {expected!r} as in {base.config_file}, "
            f"found {found!r}"
        )

    kinds, found = ([config.get("model_type") for config in _configs(index)] for index in (base, own))
    named = [(kind, other) for kind in kinds for other in found if isinstance(kind, str) and isinstance(other, str)]
    if named and not any(f"{a}_".startswith(f"{b}_") or f"{b}_".startswith(f"{a}_") for a, b in named):
        differ(*named[0], "model_type")
    for setting in ("num_hidden_layers", "n_layer"):
        depth, other = (_configs(index)[-1].get(setting) for index in (base, own))
        if depth is not None and other is not None and depth != other:
            differ(depth, other, setting)


def _configs(index: CheckpointIndex) -> list[dict[str, Any]]:
    """The config of a checkpoint, and that of its language model where it has one of its own."""
    inner = index.config.get("text_config")
    return [index.config, *([inner] if isinstance(inner, dict) else [])]
