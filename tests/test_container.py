"""The container's recipe, without a container engine: it copies what is there, and starts a command that exists."""

import json
import re
from fnmatch import fnmatch
from pathlib import Path

from gcwm_viz.cli import parser

ROOT = Path(__file__).resolve().parents[1]
LINES = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text()).splitlines()


def instruction(name: str) -> list[str]:
    return [line.removeprefix(name).strip() for line in LINES if line.startswith(f"{name} ")]


def test_it_copies_what_the_context_has() -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    sources = [source for line in instruction("COPY") for source in line.split()[:-1]]
    assert "pyproject.toml" in sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert any(fnmatch(source, rule[1:]) for rule in ignored if rule.startswith("!")), source


def test_it_serves_the_app_as_another_user_than_root() -> None:
    (entry,), (command,) = instruction("ENTRYPOINT"), instruction("CMD")
    assert json.loads(entry) == ["gcwm-viz"]
    options = parser().parse_args(json.loads(command))
    assert instruction("EXPOSE") == [str(options.port)]
    assert f"localhost:{options.port}" in instruction("HEALTHCHECK")[0]
    assert instruction("USER") == ["gcwm"]
    assert LINES.index("USER gcwm") < next(number for number, line in enumerate(LINES) if line.startswith("CMD"))
