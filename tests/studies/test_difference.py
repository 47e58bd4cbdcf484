"""The update between two checkpoints, against matrices whose spectrum is known."""

import math
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from gcwm_viz.cli import main
from gcwm_viz.errors import InputError
from gcwm_viz.signals.interference import interference
from gcwm_viz.studies.difference import COLUMNS, KEPT, by, difference
from tests.continual.inputs import write_base
from tests.factories import orthogonal
from tests.rounding import rounding

VALUES = (3.0, 1.0, 0.5)
"""Singular values of the change of one matrix."""


def q_proj(content: dict[str, torch.Tensor]) -> str:
    return next(name for name in content if "q_proj" in name)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path, str]:
    """A base, and a checkpoint that differs from it in one matrix, by an update with :data:`VALUES`."""
    before = write_base(tmp_path / "before")
    after = write_base(tmp_path / "after")
    content = load_file(before / "model.safetensors")
    name = q_proj(content)
    rows, columns = content[name].shape
    left, right = orthogonal(rows, 3)[:, :3], orthogonal(columns, 4)[:3]
    delta = left @ torch.diag(torch.tensor(VALUES, dtype=left.dtype)) @ right
    content[name] = (content[name].double() + delta).float()
    save_file(content, after / "model.safetensors")
    return before, after, name


def changed(rows: pd.DataFrame) -> pd.Series:
    (row,) = [row for _, row in rows[rows["norm"] > 0].iterrows()]
    return row


def test_the_spectrum_is_that_of_the_change(pair: tuple[Path, Path, str]) -> None:
    before, after, name = pair
    rows = difference(before, after)
    assert list(rows.columns) == list(COLUMNS)
    row = changed(rows)
    energy = sum(value**2 for value in VALUES)
    # W + Δ was rounded to float32, so each entry of Δ is off by at most eps |W|.
    bound = torch.finfo(torch.float32).eps * row["base_norm"] + rounding(row["d_in"])
    assert row["matrix"] == name
    assert row["norm"] == pytest.approx(energy**0.5, abs=bound)
    assert row["singular_values"][:3] == pytest.approx(VALUES, abs=bound)
    assert max(row["singular_values"][3:]) <= bound
    assert row["stable_rank"] == pytest.approx(energy / VALUES[0] ** 2, rel=4 * bound)
    assert row["top_share"] == pytest.approx(VALUES[0] ** 2 / energy, rel=4 * bound)
    assert row["rank_90"] == 2  # 9 of 10.25 is below 90 %, 10 of 10.25 above
    assert len(row["singular_values"]) <= KEPT


def test_an_unchanged_matrix_is_zero_and_has_no_directions(pair: tuple[Path, Path, str]) -> None:
    rows = difference(*pair[:2])
    same = rows[rows["matrix"] != pair[2]]
    assert len(same) > 1
    assert (same[["norm", "relative_norm", "rank"]] == 0).all(axis=None)
    assert same[["stable_rank", "rank_90", "top_share", "intruders"]].isna().all(axis=None)


def test_intruders_are_those_of_the_predictor(pair: tuple[Path, Path, str]) -> None:
    before, after, name = pair
    weight, other = (load_file(folder / "model.safetensors")[name] for folder in (before, after))
    expected = float(interference(weight, [other - weight]).intruders[0])
    assert changed(difference(before, after))["intruders"] == expected
    assert math.isnan(changed(difference(before, after, largest=1))["intruders"])


def test_groups_add_up(pair: tuple[Path, Path, str]) -> None:
    rows = difference(*pair[:2])
    for column in ("family", "layer"):
        table = by(rows, column)
        assert table["matrices"].sum() == len(rows)
        assert (table["norm"] ** 2).sum() == pytest.approx((rows["norm"] ** 2).sum())
    family = by(rows, "family").loc["q_proj"]
    own = rows[rows["family"] == "q_proj"]
    assert family["relative_norm"] == pytest.approx(own["norm"].max() / (own["base_norm"] ** 2).sum() ** 0.5)


def test_the_command_prints_groups_and_writes_matrices(
    pair: tuple[Path, Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rows.csv"
    assert main(["diff", str(pair[0]), str(pair[1]), "--csv", str(file)]) == 0
    said = capsys.readouterr().out
    written = pd.read_csv(file)
    assert f"1 of {len(written)} target matrices changed" in said
    assert "by family" in said
    assert "by layer" in said
    assert main(["diff", str(pair[0]), str(pair[1]), "--leave-out", "q_proj"]) == 0
    said = capsys.readouterr().out
    assert "0 of 6 target matrices changed" in said
    assert "outside them lies 100.0% of the whole ‖Δ‖²: matrices 100.0%" in said


def test_what_does_not_fit_is_named(pair: tuple[Path, Path, str], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        difference(pair[0], tmp_path / "nowhere")
