"""A base and its updates, paired by tensor name and shape before any weight is read."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.errors import InputError
from gcwm_viz.updates.groups import counted
from gcwm_viz.updates.matrices import MatrixKey, is_target, target_matrices
from gcwm_viz.updates.outside import outside_share
from gcwm_viz.updates.sources import AdapterUpdate, CheckpointUpdate, UpdateSource, open_update
from gcwm_viz.updates.vocabulary import vocabulary_note

__all__ = [
    "Coverage",
    "MatrixKey",
    "Plan",
    "UpdateSource",
    "open_update",
    "outside_share",
    "plan",
    "target_matrices",
]


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """What one update holds for the base: ``touched`` target matrices, ``missing`` ones, tensors outside them that
    are ``ignored``, those that the base does not have (``extra``), and outside ones of another shape
    (``resized``: name, found, expected)."""

    update: str
    kind: str
    path: str
    touched: list[str]
    missing: list[str]
    ignored: list[str]
    extra: list[str]
    resized: list[tuple[str, tuple[int, ...], tuple[int, ...]]]
    bytes_to_read: int

    def row(self) -> dict[str, object]:
        """Counts for a table."""
        return {
            "update": self.update,
            "kind": self.kind,
            "path": self.path,
            "matrices": len(self.touched),
            "missing": len(self.missing),
            "ignored": len(self.ignored),
            "extra": len(self.extra),
            "resized": len(self.resized),
            "bytes_to_read": self.bytes_to_read,
        }


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run over these inputs would do. ``notes`` say what is as expected but worth knowing, ``warnings`` what
    is probably not meant. ``parameters`` counts the target matrices that at least one update touches."""

    base: str
    keys: list[MatrixKey]
    active: list[MatrixKey]
    updates: list[Coverage]
    parameters: int
    base_parameters: int
    bytes_to_read: int
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def coverage(self) -> list[dict[str, object]]:
        """One row of counts an update, in order of arrival."""
        return [update.row() for update in self.updates]

    @property
    def families(self) -> list[dict[str, object]]:
        """One row a family and shape: how many target matrices it has and how many of them each update touches."""
        rows: dict[tuple[str, tuple[int, int]], dict[str, object]] = {}
        touched = {update.update: set(update.touched) for update in self.updates}
        for key in self.keys:
            empty = {"family": key.family, "d_out": key.shape[0], "d_in": key.shape[1], "matrices": 0}
            row = rows.setdefault((key.family, key.shape), {**empty, **dict.fromkeys(touched, 0)})
            row["matrices"] = int(str(row["matrices"])) + 1
            for name, names in touched.items():
                row[name] = int(str(row[name])) + (key.name in names)
        return list(rows.values())

    @property
    def largest(self) -> MatrixKey:
        """The target matrix with the most elements: what peak memory follows."""
        return max(self.keys, key=lambda key: key.parameters)


def plan(base: CheckpointIndex, updates: Sequence[UpdateSource]) -> Plan:
    """Pairs every update with the base by headers alone.

    Raises InputError for no update, two updates of one name, another architecture, an adapter for another base, a
    target matrix of another shape (both shapes named) or of a non-floating dtype, and an update that touches no
    target matrix.
    """
    keys = target_matrices(base)
    if not updates:
        raise InputError(f"{base.root}: expected at least one update of this base, found none")
    for place, source in enumerate(updates):
        first = next(earlier for earlier in updates if earlier.name == source.name)
        if first is not updates[place]:
            raise InputError(f"{source.path}: the update name {source.name!r} is already taken by {first.path}")
    notes: list[str] = []
    warnings: list[str] = []
    coverages = [_cover(base, source, keys, notes, warnings) for source in updates]
    by_path: dict[str, str] = {}
    for source in updates:
        earlier_name = by_path.setdefault(str(source.path.resolve()), source.name)
        if earlier_name != source.name:
            warnings.append(f"{source.name} and {earlier_name} are the same folder, {source.path}")
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
        notes=notes,
        warnings=warnings,
    )


def _cover(
    base: CheckpointIndex, source: UpdateSource, keys: list[MatrixKey], notes: list[str], warnings: list[str]
) -> Coverage:
    for part in source.parts:
        _check_architecture(base, part, keys)
    touched = source.touched(keys)
    for key in touched:
        source.check(key)
    targets = {key.name for key in keys}
    shapes = source.shapes()
    others = {name: shape for name, shape in shapes.items() if name not in targets} | source.others()
    ignored = [name for name in others if name in base.tensors]
    extra = [name for name in others if name not in base.tensors]
    resized = [
        (name, others[name], base.tensors[name].shape) for name in ignored if others[name] != base.tensors[name].shape
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
    )
    _remark(coverage, source, len(keys), notes, warnings)
    notes += [f"{source.name}: {note}" for note in _embedding_notes(base, source)]
    return coverage


def _check_architecture(base: CheckpointIndex, source: UpdateSource, keys: list[MatrixKey]) -> None:
    if isinstance(source, CheckpointUpdate):
        for setting in ("model_type", "num_hidden_layers", "n_layer"):
            expected, found = base.config.get(setting), source.index.config.get(setting)
            if expected is not None and found is not None and expected != found:
                raise InputError(
                    f"{source.index.config_file}: another architecture, expected {setting} {expected!r} "
                    f"as in {base.config_file}, found {found!r}"
                )
        own = source.tensors
        missing = [key.name for key in keys if key.name not in own]
        foreign = [name for name in own if name not in base.tensors and is_target(own[name])]
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


def _embedding_notes(base: CheckpointIndex, source: UpdateSource) -> list[str]:
    """What tells an update's tokens and embeddings from the base's; none of it is merged."""
    found = [vocabulary_note(base.root, folder) for folder in source.folders]
    tied, own = (index.config.get("tie_word_embeddings") for index in (base, source.index))
    if source.kind.startswith("checkpoint") and isinstance(tied, bool) and isinstance(own, bool) and tied != own:
        words = {True: "ties input and output embeddings", False: "has output embeddings of their own"}
        found.append(f"{words[own]}, the base {words[tied]}; the merged model is as the base")
    return [note for note in found if note]


def _remark(coverage: Coverage, source: UpdateSource, total: int, notes: list[str], warnings: list[str]) -> None:
    name = coverage.update
    if coverage.missing:
        sentence = (
            f"{name}: {len(coverage.missing)} of {total} target matrices are not in it ({coverage.missing[0]}, …)"
        )
        # A full checkpoint is expected to be full; the other kinds hold what was trained.
        (warnings if source.kind.startswith("checkpoint") else notes).append(f"{sentence} and count as untouched")
    if coverage.ignored and not source.kind.startswith("checkpoint"):
        notes.append(
            f"{name}: {len(coverage.ignored)} tensors outside the target matrices are ignored: "
            f"{counted(coverage.ignored)} ({coverage.ignored[0]}, …)"
        )
    if coverage.extra:
        notes.append(
            f"{name}: {len(coverage.extra)} tensors that the base does not have are ignored: {coverage.extra[0]}, …"
        )
    notes += [
        f"{name}: {tensor} has shape {found}, the base {expected}; outside the target matrices, not merged"
        for tensor, found, expected in coverage.resized
    ]
    if source.kind.startswith("checkpoint") and not source.index.config:
        warnings.append(
            f"{name}: no config.json in {source.path}, taken as full weights; if its tensors are Δ itself, mark it "
            'with update.json {"format": "gcwm_viz.update"}'
        )
