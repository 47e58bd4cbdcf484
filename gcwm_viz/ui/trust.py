"""The card "How trustworthy is this": what the decision benchmark says of a forecast."""

from collections.abc import Collection

import pandas as pd
import streamlit as st

from gcwm_viz.decide.benchmark.cases import HARM
from gcwm_viz.decide.benchmark.report import NEW_REGIMES, NEW_SEEDS, OTHER_MODEL, OTHER_MODEL_REGIMES
from gcwm_viz.decide.benchmark.shipped import read_results
from gcwm_viz.decide.verdict import CHOICES, SMALL
from gcwm_viz.errors import InputError
from gcwm_viz.figures import expected_levels, regret, reliability
from gcwm_viz.figures.theme import num, percent
from gcwm_viz.signals.predictors import PREDICTORS
from gcwm_viz.statistics.interval import Interval
from gcwm_viz.ui import charts, trouble
from gcwm_viz.ui.text import as_markdown

SETTINGS = {
    NEW_SEEDS: ("New seeds", "on seeds that it was not fitted on"),
    NEW_REGIMES: ("New seeds and regimes", "on seeds and kinds of bad updates that it was not fitted on"),
    OTHER_MODEL: ("Another model", "on adapters of SmolLM2, fitted on the lab alone"),
    OTHER_MODEL_REGIMES: (
        "SmolLM2, new regimes",
        "on adapters of SmolLM2 with kinds of bad updates of which it saw none on that model",
    ),
}
"""How the forecast was tested: name in the control, and in a sentence."""
_CHANCE = 0.5
Tables = dict[str, pd.DataFrame]


def card(method: str, needs: str) -> None:
    """How well the forecast of ``needs`` (updates, prompts or labels) did in the benchmark under ``method``."""
    with st.container(border=True):
        st.subheader("How trustworthy is this?", anchor=False)
        try:
            tables = read_results()
        except InputError as error:
            trouble.show("The results of the benchmark cannot be read:", error)
            return
        validation = tables["validation"]
        tested = validation[validation["predictor"] == _name(needs)]
        own = list(tested[tested["method"] == method]["setting"].unique())
        if not own:
            known = ", ".join(dict.fromkeys(tested["method"])) or "no method"
            said = f"The benchmark did not test this forecast under the method {method}, only under {known}."
            st.info(as_markdown(said, 300))
            return
        setting = _choose(method, own)
        here = {
            name: table[(table["method"] == method) & (table["setting"] == setting)] for name, table in tables.items()
        }
        _say(here, needs, setting)
        _draw(here, needs)
        with st.expander("What single predictors foretell"):
            # Predictors are not fitted, so a setting that differs in the fit alone has none of its own.
            single = validation[(validation["method"] == method) & validation["predictor"].isin(PREDICTORS)]
            where = setting if setting in set(single["setting"]) else NEW_SEEDS
            _predictors(pd.concat([_forecasts(here), single[single["setting"] == where]]))


def _name(needs: str) -> str:
    """What the tables call a forecast."""
    return f"forecast, {needs}"


def _forecasts(here: Tables) -> pd.DataFrame:
    rows = here["validation"]
    return rows[rows["predictor"].str.startswith("forecast")]


def usual(own: Collection[str]) -> str:
    """Of the ways in which a forecast was tested the one to show first: kinds of bad updates that the fit never saw,
    since a user's are of no kind that was planned."""
    return NEW_REGIMES if NEW_REGIMES in own else next(name for name in SETTINGS if name in own)


def _choose(method: str, own: list[str]) -> str:
    options = [name for name in SETTINGS if name in own]
    return st.segmented_control(
        "Tested on",
        options,
        default=usual(own),
        required=True,
        format_func=lambda name: SETTINGS[name][0],
        key=f"trust-setting-{method}",
    )


def _say(here: Tables, needs: str, setting: str) -> None:
    row = _first(here["validation"], "predictor", _name(needs))
    assert row is not None
    auc = Interval(float(row["auc"]), float(row["auc_low"]), float(row["auc_high"]))
    where = SETTINGS[setting][1]
    if auc.against(_CHANCE) in ("covers", "below"):
        st.warning(
            f"This forecast has no skill here: {where}, its AUC for harm is {_spread(auc)}, which is not above chance "
            f"({_CHANCE})."
        )
    counted = f"{row['harmful']} of {row['n']} updates did harm, a loss of over {HARM} in the mean score"
    told = (
        f"The AUC for harm is {_spread(auc)}: the probability that it ranks a harmful update above a harmless one, 0.5 "
        f"= chance, 1 = always ({counted})."
        if auc.known
        else f"It has no AUC for harm ({counted})."
    )
    sentences = [f"Tested {where}. {told}", _held(here, needs), _missed(here, needs)]
    st.markdown("\n".join(f"- {sentence}" for sentence in sentences))


def _held(here: Tables, needs: str) -> str:
    """How many intervals held, and how often each verdict was right."""
    coverage = _first(here["coverage"], "needs", needs)
    held = "" if coverage is None else f"{_share(coverage['covered'])} of its 95 % intervals held."
    rows = here["verdicts"][here["verdicts"]["needs"] == needs]
    parts = [
        f"{expected_levels.WORDS[choice]} {_share(row['right'])} of {row['n']}"
        for choice in CHOICES
        if (row := _first(rows, "choice", choice)) is not None
    ]
    if not parts:
        return f"{held} No verdict could be checked.".strip()
    return (
        f"{held} Verdicts that were right: {', '.join(parts)}. Right = its test score is within {SMALL} of the best of "
        "whole, a third and none."
    ).strip()


def _missed(here: Tables, needs: str) -> str:
    """Regret of its plan, and of what it must beat."""
    own = _first(here["regret"], "policy", _name(needs))
    if own is None:
        return "Its plans have no regret here: too few plans were scored to know the best."
    said = f"Its plan, chosen before any merge, scores {_regret(own)} less than the best plan of the pool."
    references = {name: _first(here["regret"], "policy", name) for name in regret.REFERENCES}
    others = [f"{name} {_regret(row)} less" for name, row in references.items() if row is not None]
    if references[regret.ALL] is not None:
        said += f" That is {_share(own['share'])} of what integrating all misses."
    return f"{said} For comparison: {', '.join(others)}." if others else said


def _first(rows: pd.DataFrame, column: str, value: str) -> pd.Series | None:
    own = rows[rows[column] == value]
    return own.iloc[0] if len(own) else None


def _regret(row: pd.Series) -> str:
    return _spread(Interval(float(row["regret"]), float(row["low"]), float(row["high"])), digits=3)


def _share(value: float) -> str:
    return percent(round(float(value), 2))


def _draw(here: Tables, needs: str) -> None:
    left, right = st.columns(2, gap="medium")
    with left:
        rows = here["reliability"][here["reliability"]["needs"] == needs]
        charts.show(reliability.reliability(rows), reliability.ABOUT, rows, key="trust-reliability")
    with right:
        charts.show(regret.regret(here["regret"]), regret.ABOUT, here["regret"], key="trust-regret")


def _predictors(rows: pd.DataFrame) -> None:
    """One row a predictor, the best AUC first."""
    shown = []
    for _, row in rows.sort_values("auc", ascending=False).iterrows():
        name = str(row["predictor"])
        known = PREDICTORS.get(name)
        shown.append(
            {
                "predictor": known.title if known else name.capitalize(),
                "auc": _spread(Interval(row["auc"], row["auc_low"], row["auc_high"])),
                "rho": _spread(Interval(row["rho"], row["rho_low"], row["rho_high"]), signed=True),
                "partial": _fixed(row["partial"], True),
                "needs": known.needs if known else name.removeprefix("forecast, "),
                "line": known.line if known else "Fitted on the benchmark from the signals that it may use.",
            }
        )
    text = st.column_config.TextColumn
    st.dataframe(
        pd.DataFrame(shown, columns=["predictor", "auc", "rho", "partial", "needs", "line"]),
        hide_index=True,
        column_config={
            "predictor": text("Predictor", width=190),
            "auc": text("AUC for harm", width=135, help="0.5 = chance, 1 = every harmful update ranks above"),
            "rho": text("ρ with the loss", width=155, help="Spearman's; above zero = it foretells harm"),
            "partial": text("ρ given the norm", width=110, help="The same at equal norm of the update"),
            "needs": text("Needs", width=70, help="The updates alone, prompts without answers, or labelled probes"),
            "line": text("What it is", width=235),
        },
    )
    st.caption(
        "Which way each is read was fixed before anything was measured: above chance, and above zero, it foretells "
        "harm. In brackets: 95 % intervals over seeds. n/a: it has one value here, or is the norm itself."
    )


def _spread(interval: Interval, *, signed: bool = False, digits: int = 2) -> str:
    value, low, high = (_fixed(each, signed, digits) for each in (interval.value, interval.low, interval.high))
    return value if low == "n/a" else f"{value} [{low}, {high}]"


def _fixed(value: float, signed: bool, digits: int = 2) -> str:
    return num(value) if pd.isna(value) else f"{round(value, digits) + 0.0:{'+' if signed else ''}.{digits}f}"
