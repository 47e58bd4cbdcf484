"""The import rule: data flows downwards, and only the packages that draw need the drawing libraries."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "gcwm_viz"

ROOMS = dict(
    re.findall(
        r"^\| `(\w+)` \| (.+) \|$",
        (ROOT / "docs" / "design.md").read_text(encoding="utf-8").split("\n## Rooms\n")[1].split("\n## ")[0],
        flags=re.MULTILINE,
    )
)
"""What each room holds, in import order, from the table in docs/design.md."""
ORDER = tuple(ROOMS)
"""A room imports from itself and from what stands before it. ``errors`` is free to all; the package's own ``__init__``
is its front door and may show anything that needs no drawing library."""

DRAWING = {"streamlit": {"ui", "app"}, "plotly": {"figures", "report", "notebook", "ui", "app"}}

MODULES = sorted(PACKAGE.rglob("*.py"))


def part_of(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imports(path: Path) -> set[str]:
    """Absolute names of everything a module imports, at any depth of the file."""
    package = ("gcwm_viz", *path.relative_to(PACKAGE).parent.parts)
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names.add(module)
            if module == "gcwm_viz":  # from gcwm_viz import tables
                names.update(f"gcwm_viz.{alias.name}" for alias in node.names)
    return names


def test_the_map_has_a_line_for_every_room_and_no_other() -> None:
    assert set(ORDER) == {part_of(path) for path in MODULES} - {"__init__", "errors"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downwards(path: Path) -> None:
    part = part_of(path)
    if part == "__init__":
        allowed = set(ORDER) - {"figures", "report", "ui", "app", "commands", "cli", "__main__"}
    elif part == "errors":
        allowed = set()
    else:
        allowed = set(ORDER[: ORDER.index(part) + 1])
    for name in sorted(imports(path)):
        top, _, rest = name.partition(".")
        if top == "gcwm_viz" and rest:
            target = rest.split(".")[0]
            is_module = (PACKAGE / target).is_dir() or (PACKAGE / f"{target}.py").is_file()
            # Names of the front door itself (gcwm_viz.GCWMConfig) belong to no part.
            assert not is_module or target in allowed | {"errors"}, f"{part} must not import {name}"
        if top in DRAWING:
            assert part in DRAWING[top], f"only {sorted(DRAWING[top])} may import {top}"


def test_all_but_what_draws_imports_without_the_drawing_libraries() -> None:
    script = """
import importlib, pkgutil, sys
sys.modules["streamlit"] = sys.modules["plotly"] = None
import gcwm_viz
skipped = {"figures", "report", "notebook", "ui", "app", "__main__"}
for module in pkgutil.walk_packages(gcwm_viz.__path__, "gcwm_viz."):
    if module.name.split(".")[1] not in skipped:
        importlib.import_module(module.name)
"""
    # walk_packages imports packages as it goes; those of figures, report and ui are empty.
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr


def declared(*lines: str) -> set[str]:
    """Canonical names of the distributions that requirement lines name."""
    names = (re.match(r"[\w.-]+", line.strip()) for line in lines if not line.startswith(("#", "-")))
    return {re.sub(r"[-_.]+", "-", name[0]).lower() for name in names if name}


def test_whatever_is_imported_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    required = declared(*project["dependencies"])
    assert declared(*(ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()) == required
    extras = declared(*(line for lines in project["optional-dependencies"].values() for line in lines))
    owners = packages_distributions()
    optional = {"choreographer"}  # kaleido's own errors
    for path in MODULES:
        for name in {name.partition(".")[0] for name in imports(path)} - sys.stdlib_module_names - {"gcwm_viz"}:
            known = {re.sub(r"[-_.]+", "-", owner).lower() for owner in owners.get(name, [name])}
            assert known & (required | extras) or name in optional, f"{path}: {name} is imported and not declared"
