import json
from typing import Any

import pytest

from gcwm_viz import GCWMConfig
from gcwm_viz.errors import InputError
from gcwm_viz.geometry.config import PRESETS

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_survives_json(name: str) -> None:
    config = GCWMConfig.preset(name)
    assert GCWMConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_presets_say_what_the_method_says() -> None:
    paper, release, free = (GCWMConfig.preset(name) for name in ("paper", "release", "scale-free"))
    assert (paper.kappa, paper.lambda_mode, paper.lam, paper.numerics, paper.solver) == (
        10.0, "absolute", 1e-6, "exact", "adam",
    )  # fmt: skip
    assert (release.kappa, release.numerics, release.barycenter_iters) == (12.0, "release", 50)
    assert (release.lr, release.iters, release.barycenter_tol) == (1e-5, 100, 1e-5)
    assert (free.lambda_mode, free.solver, free.numerics) == ("relative", "exact", "exact")
    assert free == GCWMConfig()
    assert (paper.tau, release.tau) == (0.12, 0.12)
    assert (paper.whitening_ridge, release.whitening_ridge) == (0.0, 0.0)


def test_an_unset_ridge_follows_the_kind_of_lambda() -> None:
    assert GCWMConfig().whitening_ridge == 10.0
    assert GCWMConfig(lambda_mode="absolute").whitening_ridge == 0.0
    assert GCWMConfig(ridge=0.0).whitening_ridge == 0.0


def test_presets_share_what_the_method_fixes() -> None:
    paper, release, free = (GCWMConfig.preset(name) for name in ("paper", "release", "scale-free"))
    for config in (paper, release, free):
        assert (config.rank, config.energy) == (16, 0.9)
        assert (config.alpha_min, config.alpha_max, config.skip_tol) == (0.15, 0.95, 0.05)
        assert (config.analysis_rank, config.analysis_energy) == (32, 0.95)


REFUSED: list[tuple[str, Any]] = [
    *(
        (name, bad)
        for name in ("rank", "analysis_rank", "iters", "barycenter_iters")
        for bad in (0, -1, 1.5, True, "8")
    ),
    *((name, bad) for name in ("energy", "analysis_energy") for bad in (0.0, 1.01, NAN, "0.9", True)),
    *((name, bad) for name in ("alpha_min", "alpha_max") for bad in (-0.01, 1.01, NAN, None)),
    *(("skip_tol", bad) for bad in (-0.1, 0.51, NAN)),
    *((name, bad) for name in ("lam", "lr", "mu_rel", "barycenter_tol") for bad in (0.0, -1e-6, NAN, INF)),
    *(("kappa", bad) for bad in (-1.0, NAN, INF)),
    *(("tau", bad) for bad in (NAN, INF, "0.1")),
    *(
        (name, bad)
        for name in ("lambda_mode", "solver", "metric", "gate", "numerics", "precision")
        for bad in ("other", None, 1, list[str]())
    ),
]


@pytest.mark.parametrize(
    ("name", "bad"),
    REFUSED,
)
def test_a_setting_out_of_range_is_refused_by_name(name: str, bad: Any) -> None:
    with pytest.raises(InputError, match=rf"setting {name} must be .*got ") as caught:
        GCWMConfig(**{name: bad})
    assert repr(bad) in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"rank": 1, "iters": 1, "barycenter_iters": 1},
        {"energy": 1.0, "skip_tol": 0.0},
        {"skip_tol": 0.5, "kappa": 0.0, "tau": -3},
        {"alpha_min": 0.0, "alpha_max": 0.0},
        {"alpha_min": 1, "alpha_max": 1},
    ],
)
def test_the_ends_of_a_range_are_allowed(settings: dict[str, Any]) -> None:
    assert GCWMConfig(**settings).to_dict().items() >= settings.items()


def test_settings_that_contradict_each_other_or_are_unknown_are_refused() -> None:
    with pytest.raises(InputError, match=r"alpha_min must not exceed alpha_max, got 0.6 > 0.5"):
        GCWMConfig(alpha_min=0.6, alpha_max=0.5)
    with pytest.raises(InputError, match="unknown setting 'lamda'; known are rank, energy, lam"):
        GCWMConfig.from_dict({"lamda": 1e-6})
    with pytest.raises(InputError, match=r"preset must be one of .*'papr'"):
        GCWMConfig.preset("papr")
    with pytest.raises(TypeError):
        GCWMConfig(16)  # type: ignore[call-arg]
