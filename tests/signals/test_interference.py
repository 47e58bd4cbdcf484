"""What updates do to each other, against the formulas written out with dense matrices, and in closed form."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.linalg.lowrank import LowRank, Update, dense
from gcwm_viz.signals.interference import (
    INTRUDER_COUNT,
    LARGEST_DENSE,
    PAIR_TABLES,
    MatrixInterference,
    interference,
    over_matrices,
)
from tests.factories import generator, low_rank_updates, orthogonal, updates
from tests.rounding import rounding

WHOLE = GCWMConfig(analysis_rank=64, analysis_energy=1.0)
"""Every singular triplet of the matrices here."""
BOUND = 100 * rounding(24, condition=1e3)
"""Float64 products of matrices of at most 24 columns, whose right singular vectors come from a Gram matrix."""
ROWS, COLUMNS = 14, 24


def dense_updates(m: int = 3) -> list[Update]:
    return list(updates(m, ROWS, COLUMNS, overlap=0.7, decay=0.6, dtype=torch.float64))


def tables(deltas: Sequence[Update], config: GCWMConfig = WHOLE) -> dict[str, Tensor]:
    return interference(None, deltas, config).tables


def rank_one(left: int, right: int, size: float = 1.0) -> Tensor:
    """size · e_left e_rightᵀ."""
    delta = torch.zeros(ROWS, COLUMNS, dtype=torch.float64)
    delta[left, right] = size
    return delta


def test_interference_is_the_trace_written_out() -> None:
    deltas = dense_updates()
    found = tables(deltas)
    for i, own in enumerate(map(dense, deltas)):
        norm = own.square().sum()
        reads, writes = own.mT @ own / norm, own @ own.mT / norm
        for j, other in enumerate(map(dense, deltas)):
            expected = float((writes @ other @ reads @ other.mT).trace())
            assert float(found["interference"][i, j]) == pytest.approx(expected, rel=BOUND, abs=0)
            expected = float((other @ own.mT).square().sum() / norm)
            assert float(found["one_sided"][i, j]) == pytest.approx(expected, rel=BOUND, abs=0)
            assert float(found["inner"][i, j]) == pytest.approx(float((own * other).sum()), abs=BOUND)


def test_what_is_not_retained_counts_for_nothing() -> None:
    """The first r triplets of Δ_i alone, with their shares of the whole ‖Δ_i‖²; Δ_j acts whole."""
    deltas = dense_updates(2)
    found = tables(deltas, GCWMConfig(analysis_rank=4, analysis_energy=1.0))
    left, singular, right = torch.linalg.svd(dense(deltas[0]), full_matrices=False)
    shares = singular[:4].square() / singular.square().sum()
    acts = left[:, :4].mT @ dense(deltas[1]) @ right[:4].mT
    expected = float((shares[:, None] * acts.square() * shares).sum())
    assert float(found["interference"][0, 1]) == pytest.approx(expected, rel=BOUND, abs=0)


def test_adapters_are_their_dense_product() -> None:
    factored: list[Update] = list(low_rank_updates(3, ROWS, COLUMNS, 4, dtype=torch.float64))
    weight = torch.randn(ROWS, COLUMNS, generator=generator(5), dtype=torch.float64)
    whole: list[Update] = [dense(delta) for delta in factored]
    found, expected = (interference(weight, deltas, WHOLE) for deltas in (factored, whole))
    mixed = interference(weight, [factored[0], whole[1], factored[2]], WHOLE)
    for name in set(PAIR_TABLES) - {"trailing"}:
        for each in (found, mixed):
            torch.testing.assert_close(each.tables[name], expected.tables[name], rtol=BOUND, atol=BOUND, equal_nan=True)
    torch.testing.assert_close(found.squared_norm, expected.squared_norm, rtol=BOUND, atol=0)
    assert found.intruders.tolist() == expected.intruders.tolist()
    # The largest rank that an adapter can have is that of its factors.
    torch.testing.assert_close(found.effective_rank, expected.effective_rank * ROWS / 4, rtol=BOUND, atol=0)
    assert found.tables["trailing"].isnan().all()


@pytest.mark.parametrize("size", [1e-3, 7.0])
def test_scaling_laws(size: float) -> None:
    """j acts with s_j²; what it acts on is relative, so s_i has no effect; angles and shares have no size."""
    deltas = dense_updates()
    before, after = tables(deltas), tables([deltas[0], size * dense(deltas[1]), deltas[2]])
    for name in ("interference", "one_sided"):
        expected = before[name].clone()
        expected[:, 1] *= size**2
        torch.testing.assert_close(after[name], expected, rtol=BOUND, atol=0)
    for name in ("sar", "trailing"):
        torch.testing.assert_close(after[name], before[name], rtol=BOUND, atol=BOUND, equal_nan=True)
    both = interference(None, deltas, WHOLE), interference(None, [size * dense(delta) for delta in deltas], WHOLE)
    torch.testing.assert_close(both[1].effective_rank, both[0].effective_rank, rtol=BOUND, atol=0)
    for name in ("sti", "overcount"):
        torch.testing.assert_close(both[1].tables[name], both[0].tables[name], rtol=BOUND, atol=0, equal_nan=True)
    one, other = (
        over_matrices([interference(None, own, WHOLE)])[1]["alignment"]
        for own in (deltas, [deltas[0], size * dense(deltas[1]), deltas[2]])
    )
    torch.testing.assert_close(one, other, rtol=0, atol=BOUND)


def test_the_basis_does_not_matter() -> None:
    deltas = [dense(delta) for delta in dense_updates()]
    weight = torch.randn(ROWS, COLUMNS, generator=generator(9), dtype=torch.float64)
    left, right = orthogonal(ROWS, 1), orthogonal(COLUMNS, 2)
    before = interference(weight, deltas, WHOLE)
    after = interference(left @ weight @ right, [left @ delta @ right for delta in deltas], WHOLE)
    for name in PAIR_TABLES:
        torch.testing.assert_close(after.tables[name], before.tables[name], rtol=BOUND, atol=BOUND, equal_nan=True)
    torch.testing.assert_close(after.effective_rank, before.effective_rank, rtol=BOUND, atol=0)
    assert after.intruders.tolist() == before.intruders.tolist()


def test_apart_and_the_same() -> None:
    apart: list[Update] = [rank_one(0, 0, 3.0) + rank_one(1, 1), rank_one(2, 2) + rank_one(3, 3, 5.0)]
    found = tables(apart)
    for name, value in (("interference", 0), ("one_sided", 0), ("sar", 0), ("inner", 0), ("sti", 0), ("overcount", 1)):
        assert float(found[name][0, 1]) == pytest.approx(value, abs=BOUND), name
    bare = GCWMConfig(analysis_rank=64, analysis_energy=1.0, lambda_mode="absolute", lam=1e-12)
    assert float(tables(apart, bare)["conflict"][0, 1]) == pytest.approx(1, abs=1e-5)  # up to √λ
    delta = dense_updates(1)[0]
    found = tables([delta, delta])
    for name, value in (("sar", 1), ("sti", 1), ("overcount", 2), ("trailing", 1), ("conflict", 0)):
        assert float(found[name][0, 1]) == pytest.approx(value, abs=BOUND), name


def test_over_count_of_parallel_updates_is_their_ratio() -> None:
    """Δ_j = cΔ_i counts every direction of Δ_i 1 + c times: |s − 1| = |c|, whatever its sign."""
    delta = dense(dense_updates(1)[0])
    for share in (0.5, 2.0, -0.5):
        found = tables([delta, share * delta])["overcount"]
        assert float(found[0, 1]) == pytest.approx(1 + abs(share), rel=BOUND)
        assert float(found[1, 0]) == pytest.approx(1 + 1 / abs(share), rel=BOUND)


def test_singular_task_interference_is_the_norm_written_out() -> None:
    """‖(UᵀU − I) Σ (VᵀV − I)‖_1 / tr Σ with the vectors of both updates side by side."""
    deltas = dense_updates(2)
    parts = [torch.linalg.svd(dense(delta), full_matrices=False) for delta in deltas]
    u, v = torch.cat([p[0] for p in parts], dim=1), torch.cat([p[2].mT for p in parts], dim=1)
    singular = torch.cat([p[1] for p in parts])
    identity = torch.eye(len(singular), dtype=torch.float64)
    core = (u.mT @ u - identity) @ singular.diag() @ (v.mT @ v - identity)
    expected = float(core.abs().sum() / singular.sum())
    assert float(tables(deltas)["sti"][0, 1]) == pytest.approx(expected, rel=BOUND)


def test_trailing_directions_are_the_least_used_quarter() -> None:
    """With right singular vectors e_1 … e_8 in another order, the overlap is the share of common trailing ones."""
    size = torch.tensor([8.0, 7, 6, 5, 4, 3, 2, 1], dtype=torch.float64)
    orders = [[0, 1, 2, 3, 4, 5, 6, 7], [7, 1, 2, 3, 4, 5, 0, 6], [6, 7, 0, 1, 2, 3, 4, 5]]
    deltas: list[Update] = []
    for k, order in enumerate(orders):
        deltas.append(orthogonal(8, k) @ size.diag() @ torch.eye(8, dtype=torch.float64)[order])
    expected = torch.tensor([[1.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(tables(deltas)["trailing"], expected, rtol=0, atol=BOUND)


def planted(sizes: list[float]) -> tuple[Tensor, Tensor]:
    """A base of rank 16 in 40 rows, and an update that puts one new left direction a size in place of the base's
    weakest ones."""
    left, right = orthogonal(40, 3), orthogonal(16, 4)
    singular = torch.arange(16, 0, -1, dtype=torch.float64)
    weight = (left[:, :16] * singular) @ right.mT
    delta = torch.zeros(40, 16, dtype=torch.float64)
    for k, size in enumerate(sizes):
        delta += size * left[:, 16 + k, None] @ right[:, 15 - k, None].mT
    return weight, delta


@pytest.mark.parametrize(("sizes", "count"), [([100.0], 1), ([100.0, 80.0, 60.0], 3), ([0.01, 0.01], 0)])
def test_planted_directions_are_intruders(sizes: list[float], count: int) -> None:
    weight, delta = planted(sizes)
    found = interference(weight, [delta], WHOLE)
    assert float(found.intruders) == count
    assert found.base_squared_norm == pytest.approx(float(weight.square().sum()))


def test_at_most_ten_intruders_and_none_of_a_large_matrix() -> None:
    weight, delta = planted([100.0 + k for k in range(12)])
    assert float(interference(weight, [delta], WHOLE).intruders) == INTRUDER_COUNT
    wide = torch.zeros(2, LARGEST_DENSE + 1)
    wide[0, 0] = 1.0
    found = interference(wide, [wide, wide], WHOLE)
    assert found.intruders.isnan().all()
    assert found.tables["trailing"].isnan().all()
    assert float(found.tables["overcount"][0, 1]) == pytest.approx(2)


def test_effective_rank_of_equal_singular_values_is_their_share() -> None:
    for rank in (1, 5, ROWS):
        delta = torch.zeros(ROWS, COLUMNS, dtype=torch.float64)
        delta[:rank, :rank] = 3 * orthogonal(rank, rank)
        assert float(interference(None, [delta], WHOLE).effective_rank) == pytest.approx(rank / ROWS, rel=BOUND)
    thick = LowRank(torch.eye(ROWS, 40, dtype=torch.float64), torch.eye(40, COLUMNS, dtype=torch.float64))
    assert float(interference(None, [thick], WHOLE).effective_rank) == pytest.approx(1, rel=BOUND)


def test_absent_updates_are_undefined_and_change_nothing() -> None:
    first, second, third = dense_updates()
    whole = interference(None, [first, second, third], WHOLE)
    found = interference(None, [first, None, second, torch.zeros(ROWS, COLUMNS), third], WHOLE)
    kept = torch.tensor([0, 2, 4])
    for name in PAIR_TABLES:
        assert torch.equal(found.tables[name][kept[:, None], kept].nan_to_num(-7), whole.tables[name].nan_to_num(-7))
        assert found.tables[name][[1, 3]].isnan().all()
        assert found.tables[name][:, [1, 3]].isnan().all()
    assert found.squared_norm[[1, 3]].isnan().all()
    assert found.effective_rank[[1, 3]].isnan().all()
    nothing = interference(None, [None, None], WHOLE)
    assert nothing.squared_norm.isnan().all()
    assert math.isnan(nothing.base_squared_norm)
    assert all(table.shape == (2, 2) and table.isnan().all() for table in nothing.tables.values())


def matrix(norms: list[float], base: float, intruders: list[float], **given: list[list[float]]) -> MatrixInterference:
    own = {name: torch.tensor(given.get(name, [[math.nan] * 2] * 2), dtype=torch.float64) for name in PAIR_TABLES}
    values = [torch.tensor(each, dtype=torch.float64) for each in (norms, intruders)]
    return MatrixInterference(values[0], base, values[1], torch.full((2,), 0.5, dtype=torch.float64), own)


def test_over_matrices_by_hand() -> None:
    """The second update does not touch the second matrix."""
    nan = math.nan
    sti = [[nan, 0.2], [0.2, nan]]
    first = matrix([4.0, 9.0], 100.0, [1, 2], interference=[[1, 2], [3, 4]], inner=[[4, 3], [3, 9]], sti=sti)
    one = {"interference": [[5, nan], [nan, nan]], "inner": [[12, nan], [nan, nan]]}
    second = matrix([12.0, nan], 300.0, [4, nan], **one)
    of_updates, of_pairs = over_matrices([first, second])
    assert of_updates["relative_norm"].tolist() == pytest.approx([math.sqrt(16 / 400), math.sqrt(9 / 400)])
    assert of_updates["intruders"].tolist() == [2.5, 2]
    assert of_updates["effective_rank"].tolist() == [0.5, 0.5]
    assert of_pairs["interference"].flatten().tolist() == pytest.approx([6 / 16, 2 / 16, 3 / 9, 4 / 9])
    assert of_pairs["alignment"].flatten().tolist() == pytest.approx([1, 3 / 12, 3 / 12, 1])
    assert float(of_pairs["sti"][0, 1]) == pytest.approx(0.2)
    assert of_pairs["conflict"].isnan().all()
    assert set(of_pairs) == {*PAIR_TABLES, "alignment"} - {"inner"}
