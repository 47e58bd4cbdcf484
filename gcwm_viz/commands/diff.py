"""``diff``: the update between two checkpoints, by module family and layer, without a run."""

import argparse
from pathlib import Path

from gcwm_viz.commands.options import Commands, check_file, input_folder
from gcwm_viz.commands.request import choice_of
from gcwm_viz.commands.work import Bars


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "diff", help="what changed between two checkpoints: norm, rank, spectrum, intruder directions; no run"
    )
    parser.add_argument("before", type=input_folder, metavar="BEFORE", help="a checkpoint")
    parser.add_argument("after", type=input_folder, metavar="AFTER", help="a checkpoint, or an adapter of BEFORE")
    parser.add_argument("--targets", metavar="REGEX", help="matrices to compare [those of the decoder blocks]")
    parser.add_argument("--leave-out", metavar="REGEX", help="but not these")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="every matrix, with its singular values")
    parser.add_argument(
        "--largest", type=int, metavar="N", help="intruder directions of matrices up to this side; two SVDs each [512]"
    )
    parser.set_defaults(command=diff)


def diff(options: argparse.Namespace) -> None:
    from gcwm_viz.signals.interference import LARGEST_DENSE
    from gcwm_viz.studies.difference import by, difference_of, open_both
    from gcwm_viz.updates.outside import ROUNDING, outside_share, parts_outside

    if options.csv:
        check_file("--csv", options.csv)
    largest = LARGEST_DENSE if options.largest is None else options.largest
    opened = open_both(options.before, options.after, choice_of(options))
    with Bars() as bars:
        rows = difference_of(opened, largest=largest, progress=bars)
    if options.csv:
        rows.to_csv(options.csv, index=False)
    changed = rows[rows["norm"] > 0]
    norm, base = ((rows[name] ** 2).sum() ** 0.5 for name in ("norm", "base_norm"))
    print(f"{options.before} → {options.after}")
    print(f"{len(changed)} of {len(rows)} target matrices changed; ‖Δ‖/‖W‖ over all of them {norm / base:.3g}")
    share = outside_share(opened.base, opened.sources[0], opened.plan.keys)
    if share["outside_share"] > 0:
        print(f"outside them lies {share['outside_share']:.1%} of the whole ‖Δ‖²: {parts_outside(share)}")
    if share["rounding"] > ROUNDING:
        print(f"note: half-precision rounding is {share['rounding']:.1%} of this change")
    for column in ("family", "layer"):
        print(f"\nby {column}: norms over all matrices, means over those that changed")
        print(by(rows, column).to_string(float_format=lambda value: f"{value:.3g}", na_rep="–"))
    if changed["intruders"].isna().any():
        print(f"\n–: no SVD of a matrix with a side above {largest}; --largest N takes larger ones")
    if options.csv:
        print(f"\nwrote {options.csv}")
