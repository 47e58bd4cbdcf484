"""Every system side by side, over task orders and seeds."""

import streamlit as st

from gcwm_viz.figures import methods
from gcwm_viz.probes.metrics import METRICS
from gcwm_viz.statistics.comparison import final_scores, final_steps, method_means, paired_differences
from gcwm_viz.ui import charts, page, study

with page.open_page(
    "Compare", "Every method on the same updates and probes: what it keeps, what it loses, what it costs."
):
    tables, _ = study.load()
    runs = tables["runs"]
    measure = study.choose_measure("all tasks")
    column, name = measure.column, measure.meaning
    means, final = method_means(runs, column), final_steps(runs)
    expert = study.expert_mean(tables["scores"], measure)

    references = list(means["method"])
    reference = st.selectbox(
        "Reference for the differences", references, index=references.index("wudi") if "wudi" in references else 0
    )
    left, right = st.columns(2, gap="medium")
    with left:
        figure = methods.method_means(means, final, column, name, study.data_free(means["method"]), expert)
        charts.show(figure, methods.MEANS, means, key="means")
    with right:
        if references:
            differences = paired_differences(runs, column, reference)
            figure = methods.paired_differences(differences, reference, name)
            charts.show(figure, methods.DIFFERENCES, differences, key="differences")
    left, right = st.columns(2, gap="medium")
    with left:
        by_task = final_scores(tables["scores"], measure.split, measure.metric).reindex(["experts", *references])
        figure = methods.by_task(by_task, higher_is_better=METRICS[measure.metric])
        charts.show(figure, methods.TASKS, by_task.reset_index(names="method"), key="tasks")
    with right:
        figure = methods.cost(final)
        charts.show(figure, methods.COST, final[["method", "seed", "order", "seconds", "train_seconds"]], key="cost")
    st.dataframe(
        study.needs(means["method"], int(runs["step"].max())),
        hide_index=True,
        column_config={"method": "Method", "sees": "Sees", "keeps": "Keeps between steps"},
    )

    if len(tables["ablations"]):
        st.subheader("Does geometry improve the merge?")
        question = st.selectbox("Question", list(dict.fromkeys(tables["ablations"]["question"])), key="question")
        figure = methods.ablations(tables["ablations"], question)
        charts.show(figure, methods.ABLATIONS, tables["ablations"], key="ablations")
