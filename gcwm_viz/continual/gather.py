"""From the stored rows of finished matrices to the tables of a run."""

from collections.abc import Iterable

import pandas as pd

from gcwm_viz.continual.rows import TABLES, Row
from gcwm_viz.continual.store import RunStore, order_rows
from gcwm_viz.continual.summary import steps_table


def gathered(store: RunStore, indices: Iterable[int]) -> dict[str, pd.DataFrame]:
    """The tables of the matrices with these ``indices``, in this order within a step; none of no matrix."""
    rows: dict[str, list[Row]] = {name: [] for name in TABLES}
    for index in indices:
        for name, part in store.rows(index).items():
            rows[name] += part
    if not rows["matrices"]:
        return {}
    frames = {name: pd.DataFrame(order_rows(part)) for name, part in rows.items()}
    return frames | {"steps": steps_table(frames["matrices"], store.settings)}
