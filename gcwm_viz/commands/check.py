"""``check``: what a run would do, from headers alone; with ``--energy`` from weights too."""

import argparse
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gcwm_viz.commands.options import ETA_OF_RUN, Commands, add_plan, add_settings
from gcwm_viz.commands.request import planned


def add(commands: Commands) -> None:
    parser = commands.add_parser("check", help="what a run would do, from headers alone")
    add_plan(parser)
    add_settings(parser, eta=ETA_OF_RUN)
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--energy",
        action="store_true",
        help="read the weights too: how much of each update lies outside the target matrices, or is rounding",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of sentences")
    parser.set_defaults(command=check)


def check(options: argparse.Namespace) -> None:
    from gcwm_viz.continual.config import AUTO
    from gcwm_viz.continual.device import pick_device
    from gcwm_viz.continual.estimate import estimate
    from gcwm_viz.merging.registry import get_method
    from gcwm_viz.probes.preflight import preflight
    from gcwm_viz.runs.inputs import open_inputs
    from gcwm_viz.updates.chain import chain_note
    from gcwm_viz.updates.outside import outside_share, share_notes
    from gcwm_viz.updates.sequence import ABOUT, named

    (inputs, settings, choose_eta), device = planned(options), pick_device(options.device)
    opened = open_inputs(inputs)
    plan = opened.plan
    scoring = preflight(opened.base, inputs.probes, inputs.probe_dtype) if inputs.probes else None
    warnings = [*plan.warnings, *filter(None, [chain_note(opened.base, opened.sources) if options.energy else ""])]
    shares = {s.name: outside_share(opened.base, s, plan.keys) for s in opened.sources if options.energy}
    need = asdict(estimate(plan.active, len(plan.updates), settings, device, opened.ranks, opened.state_ranks))
    notes = [*plan.notes]
    for name, share in shares.items():
        notes += [f"{name}: {note}" for note in share_notes(share, settings.continual.outside)]
    if options.sequence:
        notes.append(
            f"{named([Path(name) for name, _ in inputs.updates])} read as {options.read_as}: {ABOUT[options.read_as]}; "
            f"--read-as takes {', '.join(reading for reading in ABOUT if reading != options.read_as)} instead"
        )
    facts = {
        "base": plan.base,
        "base_parameters": plan.base_parameters,
        "parameters": plan.parameters,
        "updates": plan.coverage,
        "families": plan.families,
        "targets": inputs.choice.to_json(),
        "outside": {"merged": settings.continual.outside, "tensors": plan.outside},
        "warnings": warnings,
        "notes": notes,
        "energy": {name: {k: None if math.isnan(v) else v for k, v in share.items()} for name, share in shares.items()},
        "bytes_to_read": plan.bytes_to_read,
        "probes": scoring.tasks if scoring else [],
        "probe_memory_bytes": scoring.memory_bytes if scoring else 0,
        "method": settings.method,
        "method_sees_probes": get_method(settings.method).uses_probes,
        "eta": AUTO if choose_eta else settings.continual.eta,
        "device": str(device),
    }
    print(json.dumps(facts | need) if options.json else "\n".join(_sentences(facts, need)))


def _at_strength(strength: float) -> str:
    return "" if strength == 1 else f" at strength {strength:g}"


def _sentences(facts: dict[str, Any], need: dict[str, Any]) -> list[str]:
    from gcwm_viz.continual.config import AUTO
    from gcwm_viz.probes.preflight import probe_words

    base, targets = facts["base_parameters"], facts["parameters"]
    chosen = "".join(f", {name.replace('_', '-')} {pattern!r}" for name, pattern in facts["targets"].items())
    lines = [f"base {facts['base']}: {base:,} parameters, {targets:,} in target matrices{chosen}"]
    lines += [
        f"  {row['update']} ({row['kind']}{_at_strength(row['strength'])}): {row['matrices']} matrices, "
        f"{row['missing']} missing, {row['ignored']} tensors ignored, {row['extra']} not in the base"
        for row in facts["updates"]
    ]
    lines += [
        f"  {row['family']} {row['d_out']}×{row['d_in']}: {row['matrices']} matrices" for row in facts["families"]
    ]
    outside, counts = facts["outside"]["merged"], facts["outside"]["tensors"]
    if counts:
        listed = ", ".join(f"{group} {count}" for group, count in counts.items())
        kept = "kept from the base" if outside == "keep" else f"merged by a {outside}"
        lines.append(f"outside the target matrices, tensors {kept}: {listed}")
    lines += [f"warning: {warning}" for warning in facts["warnings"]]
    lines += [f"note: {note}" for note in facts["notes"]]
    read, memory, disk = (size / 1e9 for size in (facts["bytes_to_read"], need["memory_bytes"], need["disk_bytes"]))
    lines.append(
        f"reads {read:.2f} GB, needs about {memory:.2f} GB of memory beyond the libraries, {disk:.2f} GB of disk "
        f"and some {need['seconds']:.0f} s on {facts['device']}"
    )
    sees = "sees probes" if facts["method_sees_probes"] else "sees no probes, the updates alone"
    if facts["eta"] == AUTO:
        eta = "chosen on the development probes, before the run; --eta takes a number instead"
    else:
        eta = f"{facts['eta']:g}"
    lines += [f"method {facts['method']}: {sees}", f"η: {eta}"]
    if facts["probes"]:
        lines.append(
            f"probes: {probe_words(facts['probes'])}; each worker that scores needs about "
            f"{facts['probe_memory_bytes'] / 1e9:.2f} GB of memory"
        )
    return lines
