"""Scores of matrices before a fit: against their formulas, and what they choose and penalise."""

from pathlib import Path

import pytest
import torch

from gcwm_viz.calibration.blend import read_sources
from gcwm_viz.calibration.calibrate import calibrate
from gcwm_viz.calibration.prior import chosen_cells, penalties, prior_scores
from gcwm_viz.calibration.settings import CalibrationSettings
from gcwm_viz.linalg.lowrank import dense
from gcwm_viz.probes.live import LiveModel
from gcwm_viz.runs.tables import open_run
from tests.attribution.models import CPU


def test_interference_is_its_formula(dense_run: Path) -> None:
    """Against dense float64: tr(Ĝ_i Δ_j Â_i Δ_jᵀ) over the pairs, by the leading triplets that the signals retain."""
    live = LiveModel.open(dense_run, CPU)
    sources = read_sources(live)
    found = prior_scores(live.store, sources, "interference", 0)
    config = live.store.settings.gcwm
    deltas = [dense(own[5]).double() for own in sources[1:] if own[5] is not None]
    total = 0.0
    for i, own in enumerate(deltas):
        u, s, vh = torch.linalg.svd(own, full_matrices=False)
        share = (s.square().cumsum(0) / s.square().sum() < config.analysis_energy).sum() + 1
        rank = min(int(share), config.analysis_rank or len(s))
        scale = s[:rank].square() / s.square().sum()
        left, right = (u[:, :rank] * scale) @ u[:, :rank].mT, (vh[:rank].mT * scale) @ vh[:rank]
        total += sum(float(torch.trace(left @ d @ right @ d.mT)) for j, d in enumerate(deltas) if j != i)
    assert float(found[5]) == pytest.approx(total / sum(float(d.square().sum()) for d in deltas), rel=1e-6)


def test_conflict_is_the_mean_of_the_runs_own_pairs(dense_run: Path) -> None:
    live = LiveModel.open(dense_run, CPU)
    found = prior_scores(live.store, read_sources(live), "conflict", 0)
    pairs = open_run(dense_run).tables["pairs"]
    last = pairs[(pairs["step"] == 3) & (pairs["kind"] == "active")]
    means = last.groupby("matrix")["conflict"].mean()
    expected = [means.get(key.name, float("nan")) for key in live.store.keys]
    assert found.tolist() == pytest.approx(expected, rel=1e-6, nan_ok=True)


def test_the_highest_are_chosen_and_penalised_less() -> None:
    scores = torch.tensor([0.2, float("nan"), 0.4, 0.0], dtype=torch.float64)
    keys: list = [None] * 4  # type: ignore[type-arg]
    assert chosen_cells(scores, 2, keys).tolist() == [True, False, True, False]
    assert chosen_cells(scores, None, keys).all()
    assert penalties(scores).tolist() == pytest.approx([1.0, 1.0, 0.5, 10.0])


def test_only_the_chosen_matrices_change(run: Path) -> None:
    calibrate(run, CalibrationSettings(passes=2, cells=3, prior="interference"))
    table = open_run(run).tables["calibration"]
    fitted = table[table["fitted"]]
    assert fitted["matrix"].nunique() == 3
    rest = table[~table["fitted"]].dropna(subset="value")
    assert rest["value"].tolist() == (rest["kind"] == "state").astype(float).tolist()
    live = LiveModel.open(run, CPU)
    scores = prior_scores(live.store, read_sources(live), "interference", 0)
    highest = scores.nan_to_num(nan=-1).topk(3).indices.tolist()
    assert set(fitted["matrix"]) == {live.store.keys[k].name for k in highest}
