"""The words of the app, as docs/design.md defines them."""

import streamlit as st

GLOSSARY = {
    "base": "the model θ_pre that every update starts from",
    "update Δ": "θ − θ_pre of one training, in all target matrices; an *adapter* is one in two thin factors",
    "expert": "the base with one update, at its strength",
    "target matrix": "a Linear weight of a decoder block, or one chosen by name; its *family* is its module's name, "
    "its *layer* the block",
    "step t": "the integration of the t-th update, in the order given",
    "state S_t": "θ_t − θ_pre: what the model carries after step t",
    "conflict γ": "normalised squared Bures distance of two covariances, in [0, 1]; *layer conflict* g is its weighted "
    "mean over a matrix's pairs",
    "state conflict, gap": "γ between an update and the state; the gap is that less the conflict among the active "
    "updates",
    "incoming conflict": "γ between the arriving update and the state before its step",
    "SAR": "overlap of two subspaces, from principal angles alone",
    "gate α": "the share of the geometry branch in the blend, from g",
    "branch": "one of two merges of a matrix: *plain*, or *geometry*, merged under 𝓑",
    "barycenter": "the Wasserstein mean of covariances",
    "displacement": "the distance of a merge from the plain sum of updates (solver), or of the two branches under 𝓑 "
    "(Proposition 1)",
    "η": "step size: S_t = ηΔ_merge,t",
    "strength of an update": "the factor s, 1 by default, that multiplies its Δ before anything else; part of its "
    "fingerprint; Δ elsewhere means sΔ",
    "probe": "a file of examples on which a model is scored; its *kind* determines request and metric",
    "split": "`dev` to choose by, `test` to report",
    "retention, forgetting": "a task's score at later steps, and its loss from the best earlier score",
    "path": "the straight line of weights from one state to another; a *step* is one from S_{t−1} to S_t",
    "attribution": "share of a task's change of loss that a matrix has on a path; positive = it made the task worse",
    "harm, gain": "attribution at earlier tasks; attribution at the arriving task with the other sign",
    "restoration, undo": "matrices put back to the state at the start of a path; *recovered*: the share of the change "
    "that is undone",
    "lost, regained": "of an example at a step: right before it and wrong after; right again after it was lost",
    "calibration, coefficient": "c₀ of the merged state and cᵢ of every update, by matrix or group of matrices, fitted "
    "on development probes; *held-out* ones stop the fit",
    "predictor": "a number, known before any merge, that may foretell what an update does to the others",
    "forecast": "expected score of a plan with its interval, before it is merged; *outside* its range it is not shown",
    "verdict": "on an update beside the others of a plan: integrate, less, hold or redundant",
    "plan": "what to merge: of each update how much; as a file YAML, with base, settings and probes",
    "signal": "a number of a matrix and step that may be associated with forgetting",
}


def popover() -> None:
    """The glossary behind a button."""
    with st.popover("Words", type="tertiary", icon=":material/menu_book:", help="What the words of this app mean"):
        st.markdown("\n\n".join(f"**{word}**: {meaning}" for word, meaning in GLOSSARY.items()))
