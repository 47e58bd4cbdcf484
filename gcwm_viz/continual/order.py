"""Whether the final model depends on the order in which updates arrive."""

from gcwm_viz.continual.config import RunSettings
from gcwm_viz.merging.registry import get_method


def order_matters(settings: RunSettings, *, trained: bool = False) -> str:
    """Why the final model depends on the order of updates, or an empty text where it does not: under ``all_history``
    with a constant η the increments telescope, and only the intermediate states depend on the order.

    trained: the run describes the states of a training pipeline.
    """
    continual = settings.continual
    if trained:
        return "its states come from training on one task after another"
    if get_method(settings.method).sequential:
        return f"the method {settings.method} merges one update at a time"
    if continual.policy != "all_history":
        return "the memory policy current_anchor folds earlier updates into one"
    if continual.memory is not None:
        return f"the memory keeps the last {continual.memory} updates"
    if continual.decay != 1.0:
        return "η changes from step to step"
    if continual.old_weight != continual.new_weight:
        return "the last update has another weight than those before it"
    return ""
