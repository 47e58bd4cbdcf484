"""What the parts of the page Decide share: what is expected of its updates, computed once, and what was measured."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from weakref import WeakKeyDictionary

import pandas as pd

from gcwm_viz.decide.evidence import Candidate, candidates
from gcwm_viz.decide.forecast import read
from gcwm_viz.decide.outlook import Outlook, base_scores, measured_plans, measurement, no_forecast
from gcwm_viz.decide.plans import outlook_of
from gcwm_viz.decide.predict import read_tables
from gcwm_viz.decide.rows import level_rows, measured_rows, order_rows, signal_rows
from gcwm_viz.decide.search import Measured
from gcwm_viz.errors import InputError
from gcwm_viz.probes.metrics import UNITS, headline, offered
from gcwm_viz.runs.tables import Run
from gcwm_viz.ui.scoring import choose_measure

_known: WeakKeyDictionary[Run, "Known"] = WeakKeyDictionary()
"""Of the loaded runs: no click must compute it again. A run is loaded anew when its folder changes."""


@dataclass(frozen=True)
class Known:
    """What a run's folder says of its plans, whatever split and metric the reader looks at.

    outlook: None where there is no forecast; ``reason`` says why, and is empty where it was not computed yet. base:
    mean score of the base, NaN where nobody measured it; unit: of that score. Tables for the figures, empty without a
    forecast: levels, plans, orders; signals, empty before they are computed. computed: whether the predictors are all
    there, those from probes too where the run has scores on dev.
    """

    outlook: Outlook | None
    reason: str
    eta: float
    base: float
    unit: str
    measured: list[Measured]
    signals: pd.DataFrame
    computed: bool
    levels: pd.DataFrame = field(default_factory=pd.DataFrame)
    plans: pd.DataFrame = field(default_factory=pd.DataFrame)
    orders: dict[str, pd.DataFrame] = field(default_factory=dict)

    @property
    def now(self) -> Outlook | None:
        """The outlook where its numbers may be shown."""
        return self.outlook if self.outlook is not None and not self.outlook.outside else None

    def found(self, plan: Sequence[float]) -> Measured | None:
        """What was measured of exactly this plan."""
        return measurement(self.measured, plan)


@dataclass(frozen=True)
class Decision:
    """``split`` and ``metric`` are those of what was measured of single updates; a forecast is always one of exact
    match or accuracy on the development split."""

    run: Run
    known: Known
    split: str
    metric: str
    candidates: list[Candidate]

    @property
    def unit(self) -> str:
        return UNITS[self.metric]


def known_of(run: Run) -> Known:
    """What is known of a run's plans. Raises :class:`InputError` for tables that cannot be read."""
    if run not in _known:
        _known[run] = _read(run)
    return _known[run]


def decide(run: Run, known: Known) -> Decision:
    """Controls for what was measured of single updates, and all that the page draws."""
    scores = run.tables["scores"]
    split, metric = "dev", headline(scores)
    if splits := [name for name in ("dev", "test") if name in set(scores["split"])]:
        split, metric = choose_measure("Measured on", splits, offered(scores), splits[0], key="decide")
    return Decision(run, known, split, metric, candidates(run.tables, split, metric))


def _read(run: Run) -> Known:
    settings, scores = run.store.settings, run.tables["scores"]
    outlook, reason = None, no_forecast(read(), settings, trained=bool(run.store.file.states))
    tables = read_tables(run.path)
    if not reason and len(tables["updates"]):
        try:
            outlook = outlook_of(run)
        except InputError as error:
            reason = str(error)
    eta = settings.continual.eta
    known = Known(
        outlook=outlook,
        reason=reason,
        eta=eta,
        base=float(base_scores(scores).mean()),
        unit=UNITS[headline(scores[scores["split"] == "dev"])],
        measured=outlook.measured if outlook else measured_plans(run.tables, run.updates, eta),
        signals=signal_rows(run.updates, tables),
        computed=bool(len(tables["updates"]) and (len(tables["solo"]) or not (scores["split"] == "dev").any())),
    )
    if known.now is None:
        return known
    levels, plans, orders = level_rows(known.now), measured_rows(known.now), order_rows(known.now)
    return replace(known, levels=levels, plans=plans, orders=orders)
