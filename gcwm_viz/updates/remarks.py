"""Remarks of ``check`` besides its counts: notes on what is expected but worth knowing, warnings of likely mistakes."""

from collections import Counter
from collections.abc import Sequence

from gcwm_viz.checkpoints.index import ADAPTER_CONFIG, CheckpointIndex, sample
from gcwm_viz.checkpoints.location import is_remote
from gcwm_viz.checkpoints.lora import LoraModule
from gcwm_viz.checkpoints.quantised import quantisation_method
from gcwm_viz.updates.adapter import AdapterUpdate
from gcwm_viz.updates.base_name import base_warnings
from gcwm_viz.updates.combined import StackedUpdate
from gcwm_viz.updates.coverage import Coverage
from gcwm_viz.updates.groups import Groups
from gcwm_viz.updates.matrices import MatrixKey
from gcwm_viz.updates.source import UpdateSource
from gcwm_viz.updates.sources import CheckpointUpdate
from gcwm_viz.updates.towers import Towers, block_position
from gcwm_viz.updates.vocabulary import vocabulary_note


def update_notes(base: CheckpointIndex, source: UpdateSource, coverage: Coverage, total: int) -> list[str]:
    """On one update; ``total`` target matrices in the base."""
    whole = source.kind.startswith("checkpoint")
    notes = []
    if coverage.missing and not whole:
        notes.append(_missing(coverage, total))
    if coverage.ignored and not whole:
        counted = Groups(base).counted(coverage.ignored)
        notes.append(
            f"{len(coverage.ignored)} tensors outside the target matrices are ignored: {counted} "
            f"({coverage.ignored[0]}, …)"
        )
    if coverage.extra:
        notes.append(f"{len(coverage.extra)} tensors that the base does not have are ignored: {coverage.extra[0]}, …")
    notes += [
        f"{tensor} has shape {found}, the base {expected}; outside the target matrices, where the base's is kept"
        for tensor, found, expected in coverage.resized
    ]
    notes += [
        f"{part.index.root / ADAPTER_CONFIG} is left over: the folder is read as the full checkpoint that it holds"
        for part in source.parts
        if isinstance(part, CheckpointUpdate) and (part.index.root / ADAPTER_CONFIG).is_file()
    ]
    for part in source.parts:
        if isinstance(part, AdapterUpdate):
            notes += _drawn_again(part)
    return notes + _embedding_notes(base, source)


def update_warnings(base: CheckpointIndex, source: UpdateSource, coverage: Coverage, total: int) -> list[str]:
    """On one update; ``total`` target matrices in the base."""
    warnings = []
    # A full checkpoint is expected to be full; the other kinds hold what was trained.
    if coverage.missing and source.kind.startswith("checkpoint"):
        warnings.append(_missing(coverage, total))
    if source.kind.startswith("checkpoint") and not source.index.config:
        warnings.append(
            f"no config.json in {source.path}, taken as full weights; if its tensors are Δ itself, mark it "
            'with update.json {"format": "gcwm_viz.update"}'
        )
    if isinstance(source, CheckpointUpdate):
        warnings += _base_itself(base, source, coverage)
    trained_on = source.checkpoint.index if isinstance(source, StackedUpdate) else base
    for part in source.parts:
        if isinstance(part, AdapterUpdate):
            warnings += base_warnings(trained_on, part.index.config)
    return warnings


def model_warnings(base: CheckpointIndex, keys: Sequence[MatrixKey], coverages: Sequence[Coverage]) -> list[str]:
    """On the base, and on what of the updates is not merged."""
    warnings = []
    method = quantisation_method(base)
    if method:
        warnings.append(
            f"{base.config_file} speaks of weights quantised by {method}, which these are not; the merged model takes "
            "it over, and transformers would quantise it when loading it, so remove quantization_config"
        )
    ignored = {name for coverage in coverages for name in coverage.ignored}
    sizes = {name: base.stored(name).parameters for name in ignored}
    encoder = [name for name in ignored if "encoder" in name.split(".")]
    if encoder and base.config.get("is_encoder_decoder") is True:
        warnings.append(
            f"an encoder-decoder model: only blocks of the decoder are merged; {len(encoder)} tensors of the encoder, "
            f"{sum(map(sizes.__getitem__, encoder)):,} parameters, stay as they are in the base, whatever the updates "
            "changed in them"
        )
    lost = Counter[str]()
    towers = Towers.of(base)
    for name in filter(towers.in_decoder, ignored):
        position = block_position(name)
        if position is not None:
            lost[".".join(name.split(".")[position + 1 :]).removesuffix(".weight")] += sizes[name]
    own = sum(key.parameters for key in keys)
    if lost.total() > own:
        listed = ", ".join(f"{name} {size:,}" for name, size in lost.most_common(3))
        warnings.append(
            f"little is merged: target matrices hold {own:,} parameters of the decoder blocks, and {lost.total():,} "
            f"that updates hold too are no targets and stay as they are in the base ({listed}{', …' * (len(lost) > 3)})"
        )
    return warnings


def _missing(coverage: Coverage, total: int) -> str:
    return (
        f"{len(coverage.missing)} of {total} target matrices are not in it ({coverage.missing[0]}, …) and count as "
        "untouched"
    )


def _base_itself(base: CheckpointIndex, source: CheckpointUpdate, coverage: Coverage) -> list[str]:
    """A trained checkpoint differs in the first bytes that are compared; only a copy is compared to the end."""
    if str(source.path) == str(base.root) or source.path.resolve() == base.root.resolve():
        return ["this is the base itself, so Δ is zero"]
    if is_remote(base.root) or is_remote(source.path):
        return []
    pairs = ((source.tensors[name], base.stored(name)) for name in coverage.touched)
    if any(own.dtype != other.dtype or sample(own) != sample(other) for own, other in pairs):
        return []
    return ["its target matrices are the base's, in every byte that was compared: Δ seems to be zero"]


def _drawn_again(source: AdapterUpdate) -> list[str]:
    """What of an adapter is not stored and is computed again, as peft does when it loads it."""
    notes = []
    if source.index.config.get("save_projection") is False:
        notes.append(
            "its projections are not stored but drawn from the seed in its adapter_config.json (save_projection is "
            "false), which another version of torch may draw differently"
        )
    starts = {module.start for module in source.modules.values() if isinstance(module, LoraModule)} - {""}
    if starts:
        notes.append(
            f"it was trained from a start that follows from its base ({', '.join(sorted(starts))}) and is computed "
            "again, by a decomposition, for every matrix that is read; save_pretrained(…, "
            "path_initial_model_for_weight_conversion=…) makes a plain adapter of it once and for all"
        )
    return notes


def _embedding_notes(base: CheckpointIndex, source: UpdateSource) -> list[str]:
    """How an update's tokens and embeddings differ from the base's; none of it is merged."""
    notes = [vocabulary_note(base.root, folder) for folder in source.folders]
    tied, own = (index.config.get("tie_word_embeddings") for index in (base, source.index))
    if source.kind.startswith("checkpoint") and isinstance(tied, bool) and isinstance(own, bool) and tied != own:
        words = {True: "ties input and output embeddings", False: "has output embeddings of their own"}
        notes.append(f"{words[own]}, the base {words[tied]}; the merged model is as the base")
    return [note for note in notes if note]
