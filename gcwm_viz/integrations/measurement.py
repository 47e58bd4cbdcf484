"""Geometry of an update in training within a time budget: matrices in a fixed order that is spread over layers and
families, so that the first of them stand for all."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

import torch
from torch import Tensor

from gcwm_viz.integrations.in_training import TrainedUpdate
from gcwm_viz.integrations.meeting import Meeting
from gcwm_viz.signals.arriving import Arriving, Settled
from gcwm_viz.signals.catalogue import INCOMING
from gcwm_viz.signals.interference import over_matrices
from gcwm_viz.signals.predictors import INTERFERENCE, INTRUDERS, SAR, UPDATE_NORM
from gcwm_viz.updates.matrices import MatrixKey

MATRICES = "matrices"
"""How many matrices a measurement covered, among its values."""
ALL_MATRICES = "matrices_in_all"
SECONDS = "seconds"
Values = dict[str, float]


@dataclass
class Geometry:
    """Measures an update against a meeting. ``order``: the matrices that it may touch, see :func:`spread`; ``device``:
    where their decompositions are computed; ``largest``: as in :meth:`Settled.of`.

    What is settled of a matrix is computed once, by :meth:`prepare`, and kept: r ≤ 32 triplets of every earlier update
    and of the state, in float64.
    """

    meeting: Meeting
    order: Sequence[MatrixKey]
    device: torch.device
    largest: int
    by_family: bool
    _settled: dict[str, Settled] = field(default_factory=dict)

    def prepare(self, seconds: float, most: int | None) -> None:
        """Settle the first matrices of the order: as many as begin within ``seconds``, at least one and at ``most`` so
        many. Raises :class:`~gcwm_viz.errors.InputError` for files that cannot be read."""
        for key in _within(self.order[:most], seconds):
            self._settled[key.name] = self.meeting.settled(key, self.device, self.largest)

    def of(self, update: TrainedUpdate, seconds: float, most: int | None = None) -> Values:
        """Values over the first of the prepared matrices, limited likewise. Raises
        :class:`~gcwm_viz.errors.InputError` for weights that cannot be read."""
        start = time.monotonic()
        prepared = self.order[: len(self._settled)]
        parts = [(key, self._arriving(update, key)) for key in _within(prepared[:most], seconds)]
        values = self._summary(parts)
        counts = {MATRICES: float(len(parts)), ALL_MATRICES: float(len(self.order))}
        return values | counts | {SECONDS: time.monotonic() - start}

    def _arriving(self, update: TrainedUpdate, key: MatrixKey) -> Arriving:
        return self.meeting.arriving(self._settled[key.name], key, update.delta(key), self.device)

    def _summary(self, parts: Sequence[tuple[MatrixKey, Arriving]]) -> Values:
        names = self.meeting.names
        values = summary([part for _, part in parts], names)
        if self.by_family:
            for family in dict.fromkeys(key.family for key, _ in parts):
                own = summary([part for key, part in parts if key.family == family], names)
                values |= {f"{family}/{name}": value for name, value in own.items()}
        return values


def summary(parts: Sequence[Arriving], names: Sequence[str]) -> Values:
    """Over matrices, as :func:`over_matrices` defines it; the incoming conflict is a mean too. Undefined ones are left
    out. ``names``: of the earlier updates."""
    of_updates, of_pairs = over_matrices([part.effects for part in parts])
    values = {
        UPDATE_NORM.column: float(of_updates[UPDATE_NORM.column][-1]),
        SAR.column: _mean(of_pairs[SAR.column][:-1, -1]),
        INCOMING.column: _mean(torch.tensor([part.incoming for part in parts], dtype=torch.float64)),
        INTRUDERS.column: float(of_updates[INTRUDERS.column][-1]),
    }
    acting = of_pairs[INTERFERENCE.column][:-1, -1]
    values |= {f"{INTERFERENCE.column}/{name}": float(value) for name, value in zip(names, acting, strict=True)}
    return {name: value for name, value in values.items() if value == value}


def quantities(names: Sequence[str]) -> list[str]:
    """The names that :func:`summary` gives of earlier updates with these ``names``."""
    own = [UPDATE_NORM.column, SAR.column, INCOMING.column, INTRUDERS.column]
    return [*own, *(f"{INTERFERENCE.column}/{name}" for name in names)]


def _within(keys: Sequence[MatrixKey], seconds: float) -> Iterator[MatrixKey]:
    """The first key, and those that are asked for before ``seconds`` are over."""
    start = time.monotonic()
    for place, key in enumerate(keys):
        if place and time.monotonic() - start >= seconds:
            return
        yield key


def _mean(values: Tensor) -> float:
    return float(values.nanmean())


def spread(keys: Sequence[MatrixKey]) -> list[MatrixKey]:
    """``keys`` in an order whose beginnings are spread over families and layers: a matrix of every family in turn, its
    layers by their bit-reversed numbers (0, 4, 2, 6, 1, …), another start for each family."""
    families: dict[str, list[MatrixKey]] = {}
    for key in keys:
        families.setdefault(key.family, []).append(key)
    columns = []
    for place, members in enumerate(families.values()):
        start = place * len(members) // len(families)
        order = sorted(range(len(members)), key=lambda at: f"{at:032b}"[::-1])
        columns.append([members[(start + at) % len(members)] for at in order])
    return [key for row in zip_longest(*columns) for key in row if key is not None]
