"""Another merge of the run's updates at once: what to take in, how much, η, gate, coefficients, and what it scores."""

from gcwm_viz.ui import frame, variant_page

with frame.frame(
    "Try", "Merge the run's updates differently and see what the model then scores. The address is a link to it."
) as view:
    variant_page.show(view.run)
