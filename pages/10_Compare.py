"""Every system side by side, over task orders and seeds."""

import streamlit as st

from gcwm_viz.figures import methods
from gcwm_viz.signals.comparison import final_steps, method_means, paired_differences
from gcwm_viz.ui import charts, frame, study

frame.open_page("Compare", "Every method on the same updates and probes: what it keeps, what it loses, what it costs.")
tables, _ = study.load()
runs = tables["runs"]
column, target, prefix = study.choose_target("overall")
name = study.TARGETS[target]
means, final = method_means(runs, column), final_steps(runs)
expert = study.expert_mean(tables["scores"], prefix) if target in study.SCORES else float("nan")

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
charts.show(
    methods.cost(final), methods.COST, final[["method", "seed", "order", "seconds", "train_seconds"]], key="cost"
)
st.caption("A trained method starts from the same base and sees the tasks' training data; a merge sees updates alone.")
