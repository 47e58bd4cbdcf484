"""Ablations: single parts of GCWM varied on one seed's experts, all merged at once.

Every variant is scaled by the η that the development split prefers. With all updates active and a constant η the final
model does not depend on their order, so there is one table a seed. Two variants are not in the paper: another power of
the metric than −½ before the solver, and a strength of integration that falls with state-relative conflict (`strength`,
which depends on the order and takes the recipe's).

Shape suffixes: o = d_out, i = d_in.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from gcwm_viz.continual.config import RunSettings
from gcwm_viz.experiments.lab.aimmerging import AIMSettings, aimmerging
from gcwm_viz.experiments.lab.ewc import EWCSettings, ewc
from gcwm_viz.experiments.lab.forever import ForeverSettings, forever
from gcwm_viz.experiments.lab.library import State
from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.geometry.layer import layer_geometry
from gcwm_viz.geometry.metric import Metric
from gcwm_viz.linalg.lowrank import dense
from gcwm_viz.linalg.subspace import right_subspace
from gcwm_viz.merging.gcwm import LayerMerge, merge_layer
from gcwm_viz.merging.quadratic import build_quadratic, plain_sum
from gcwm_viz.merging.solvers import solve
from gcwm_viz.signals.state import incoming_conflict
from gcwm_viz.studies.lab.bench import Bench, Rows

ETAS = (0.6, 0.8, 1.0, 1.2, 1.4)
ABSOLUTE = (1e-6, 1e-4, 1e-2, 1.0)
RELATIVE = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
PROXIMAL = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
RIDGES = (0.0, 0.1, 1.0, 10.0)
POWERS = (-0.5, -0.25, 0.25, 0.5)
FALLS = (0.25, 0.5, 1.0)
EWC_STRENGTHS = (0.1, 1.0, 10.0, 300.0, 3e3, 3e4)


@dataclass(frozen=True)
class Variant:
    """One variant of a question. `merge`: S_T at an η of `etas`; `scales`: S_T is η times one merge, computed once."""

    question: str
    name: str
    merge: Callable[[float], State]
    scales: bool = True
    etas: tuple[float, ...] = ETAS


def run_ablations(bench: Bench, question: str) -> Rows:
    """Rows {question, variant, eta, dev, dev_se, test, test_se}: exact match in [0, 1] at the η chosen on dev."""
    rows = []
    for variant in QUESTIONS[question](bench):
        unit = variant.merge(1.0) if variant.scales else {}
        best: tuple[float, float, float, State] | None = None
        for eta in variant.etas:
            state = {n: eta * m for n, m in unit.items()} if variant.scales else variant.merge(eta)
            dev, error = bench.exact(state, "dev")
            if best is None or dev > best[0]:
                best = (dev, error, eta, state)
        assert best is not None
        dev, error, eta, state = best
        test, test_error = bench.exact(state, "test")
        rows.append(
            {
                "question": variant.question,
                "variant": variant.name,
                "eta": eta,
                "dev": dev,
                "dev_se": error,
                "test": test,
                "test_se": test_error,
            }
        )
    return rows


def _registered(question: str, bench: Bench, name: str, method: str, **settings: Any) -> Variant:
    complete = RunSettings.preset_with("scale-free", settings, method)
    return Variant(question, name, lambda eta: bench.final_merge(bench.tasks, complete))


def _solvers(bench: Bench) -> Iterator[Variant]:
    for lr in (1e-5, 1e-3):
        yield _registered("solver", bench, f"adam lr {lr:g}", "wudi", solver="adam", lr=lr)
    for mu in PROXIMAL:
        yield _registered("solver", bench, f"exact μ_rel {mu:g}", "wudi", mu_rel=mu)


def _metrics(bench: Bench) -> Iterator[Variant]:
    yield _registered("metric", bench, "none (plain branch)", "wudi")
    for mode, values in (("absolute", ABSOLUTE), ("relative", RELATIVE)):
        for lam in values:
            for metric in ("barycenter", "mean"):
                settings = {"gate": "none", "metric": metric, "lam": lam, "lambda_mode": mode, "ridge": 0.0}
                yield _registered("metric", bench, f"{metric}, λ {mode} {lam:g}", "gcwm", **settings)


def _ridges(bench: Bench) -> Iterator[Variant]:
    for ridge in RIDGES:
        yield _registered("ridge", bench, f"ρ {ridge:g}, no gate", "gcwm", gate="none", ridge=ridge)


def _gating(bench: Bench) -> Iterator[Variant]:
    for ridge in (1.0, 10.0):
        branches = _branches(bench, GCWMConfig(ridge=ridge))
        for name, alphas in _gates(branches).items():
            yield Variant("gate", f"{name}, ρ {ridge:g}", _blended(bench, branches, alphas))


def _powers(bench: Bench) -> Iterator[Variant]:
    for lam in (0.1, 1.0):
        config = GCWMConfig(lam=lam, ridge=0.0)
        metrics = [layer_geometry(_experts(bench, key.name), None, config).metric for key in bench.keys]
        for power in POWERS:
            yield Variant("power", f"𝓑^{power:+g}, λ relative {lam:g}", _powered(bench, config, metrics, power))


def _strengths(bench: Bench) -> Iterator[Variant]:
    prefixes = [_plain(bench, t) for t in range(1, len(bench.tasks) + 1)]
    for fall in (0.0, *FALLS):
        yield Variant("strength", f"η ∝ 1 − {fall:g}γ", _strength(bench, prefixes, fall), scales=False)


def _trainings(bench: Bench) -> Iterator[Variant]:
    """Pipelines with a setting to choose, trained in the recipe's order."""
    for strength in EWC_STRENGTHS:
        yield _trained(bench, f"ewc λ {strength:g}", partial(ewc, settings=EWCSettings(strength=strength)))
    for session in (4, 8, 16, 32, 64):
        yield _trained(
            bench, f"forever, sessions of {session}", partial(forever, settings=ForeverSettings(session=session))
        )
    for steps in (3, 6, 12):
        yield _trained(
            bench, f"aimmerging, rehearsal of {steps}", partial(aimmerging, settings=AIMSettings(rehearsal=steps))
        )


def _trained(bench: Bench, name: str, train: Callable[..., list[State]]) -> Variant:
    return Variant("training", name, lambda eta: train(bench.library, bench.tasks)[-1], etas=(1.0,))


QUESTIONS: dict[str, Callable[[Bench], Iterator[Variant]]] = {
    "solver": _solvers,
    "gate": _gating,
    "strength": _strengths,
    "ridge": _ridges,
    "metric": _metrics,
    "power": _powers,
    "training": _trainings,
}


def _experts(bench: Bench, name: str) -> list[Tensor]:
    return [bench.library.expert(task)[name] for task in bench.tasks]


def _branches(bench: Bench, config: GCWMConfig) -> list[LayerMerge]:
    return [merge_layer(_experts(bench, key.name), None, config) for key in bench.keys]


def _gates(branches: list[LayerMerge]) -> dict[str, list[float]]:
    """α of every matrix: the gate's, constants, and a permutation, with its strength but without its information."""
    alphas = [branch.alpha for branch in branches]
    shuffle = torch.randperm(len(alphas), generator=torch.Generator().manual_seed(0)).tolist()
    return {
        "off (α = 0)": [0.0] * len(alphas),
        "conflict": alphas,
        "constant of the same mean": [sum(alphas) / len(alphas)] * len(alphas),
        "conflict of another matrix": [alphas[i] for i in shuffle],
        "always (α = 1)": [1.0] * len(alphas),
    }


def _blended(bench: Bench, branches: list[LayerMerge], alphas: list[float]) -> Callable[[float], State]:
    def merge(eta: float) -> State:
        gated = zip(bench.keys, branches, alphas, strict=True)
        return {key.name: torch.lerp(dense(branch.plain), dense(branch.geo), alpha) for key, branch, alpha in gated}

    return merge


def _powered(
    bench: Bench, config: GCWMConfig, metrics: Sequence[Metric | None], power: float
) -> Callable[[float], State]:
    """The merge of Δ𝓑^power, mapped back by 𝓑^−power; −½ is the paper's geometry branch."""

    def merge_matrix(deltas: list[Tensor], metric: Metric | None) -> Tensor:
        assert metric is not None
        whitened = [metric.times_power(delta.double(), power) for delta in deltas]
        solution = solve(build_quadratic(whitened, [1.0] * len(whitened)), config)
        return plain_sum(deltas) + metric.times_power(dense(solution.displacement_oi).double(), -power).float()

    def merge(eta: float) -> State:
        pairs = zip(bench.keys, metrics, strict=True)
        return {key.name: merge_matrix(_experts(bench, key.name), metric) for key, metric in pairs}

    return merge


def _plain(bench: Bench, t: int) -> State:
    """Δ_merge,t of the plain branch over the first t tasks."""
    config = GCWMConfig()
    state: State = {}
    for key in bench.keys:
        deltas = [bench.library.expert(task)[key.name].double() for task in bench.tasks[:t]]
        total = plain_sum(deltas)
        state[key.name] = (total + dense(solve(build_quadratic(deltas, [1.0] * t), config).displacement_oi)).float()
    return state


def _strength(bench: Bench, prefixes: list[State], fall: float) -> Callable[[float], State]:
    """S_t = S_{t−1} + η s_t (M_t − M_{t−1}), s_t ∝ 1 − fall·γ_t with mean 1 over matrices.

    γ_t is the conflict of S_{t−1} with the arriving update. With a mean of 1 only the distribution over matrices
    changes, not the total strength.
    """
    config = GCWMConfig()

    def conflict(name: str, state: Tensor, arriving: Tensor) -> float:
        pair = [right_subspace(u, config.analysis_rank, config.analysis_energy) for u in (state, arriving)]
        return incoming_conflict(pair[0], pair[1], config)

    def merge(eta: float) -> State:
        state = {name: eta * value for name, value in prefixes[0].items()}
        for t, task in enumerate(bench.tasks[1:], start=1):
            expert = bench.library.expert(task)
            strength = {name: 1 - fall * conflict(name, state[name], expert[name]) for name in state}
            mean = sum(strength.values()) / len(strength)
            for name in state:
                change = prefixes[t][name] - prefixes[t - 1][name]
                state[name] = state[name] + eta * strength[name] / mean * change
        return state

    return merge
