"""One question to the base, an expert, and the model after every step."""

from gcwm_viz.ui import ask, frame

with frame.frame(
    "Ask", "One question, and the greedy answer of the base, of an expert, and of the model after every step."
) as view:
    ask.show(view)
