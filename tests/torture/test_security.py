"""What SECURITY.md promises: who is answered, which files are opened, what is never run."""

import ast
import json
import os
import pickle
import shutil
import socket
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import psutil
import pytest
import streamlit as st
from fsspec import AbstractFileSystem
from fsspec.registry import _registry
from playwright.sync_api import Page, expect
from streamlit.testing.v1 import AppTest

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.checkpoints.location import location
from gcwm_viz.cli import main
from gcwm_viz.errors import InputError
from gcwm_viz.probes import lines, tasks
from gcwm_viz.ui import folder_picker, plan_form, roots
from gcwm_viz.ui.loading import load_run
from gcwm_viz.ui.page import is_loopback
from gcwm_viz.ui.roots import run_names
from tests.browser.conftest import Server
from tests.factories_runs import write_run
from tests.torture.conftest import REPOSITORY
from tests.torture.small import write_inputs
from tests.ui.conftest import open_page, run_root

__all__ = ["open_page", "run_root"]

PACKAGE = REPOSITORY / "gcwm_viz"
SOURCES = sorted([*PACKAGE.rglob("*.py"), REPOSITORY / "app.py", *(REPOSITORY / "pages").glob("*.py")])


def ask(port: int, request: str) -> tuple[int, str]:
    """Status and answer of a raw HTTP request to the app."""
    with socket.create_connection(("localhost", port), timeout=10) as connection:
        connection.sendall(request.encode())
        connection.settimeout(10)
        answer = connection.recv(4096).decode(errors="replace")
    return int(answer.split()[1]), answer


def upgrade(port: int, host: str, origin: str | None) -> int:
    """Status of a WebSocket handshake, 101 when it is let in."""
    lines = [
        "GET /_stcore/stream HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
        *([f"Origin: {origin}"] if origin else []),
    ]
    return ask(port, "\r\n".join(lines) + "\r\n\r\n")[0]


def test_the_app_answers_this_machine_only(
    tmp_path: Path, serve: Callable[..., Server], window: Callable[[], Page], record: Callable[[str, str, str], None]
) -> None:
    """Loopback alone; foreign Host and Origin refused; XSRF; nothing looked up outside for any of them."""
    root = tmp_path / "runs"
    write_run(root, "normal")
    watched = tmp_path / "watched"
    server = serve(root, PYTHONPATH=str(Path(__file__).parent / "watching"), GCWM_WATCH=str(watched))
    port = server.port
    listening = [
        c.laddr for c in psutil.Process(server.process.pid).net_connections() if c.status == psutil.CONN_LISTEN
    ]
    assert listening
    assert all(is_loopback(address.ip) for address in listening)

    page = window()
    page.goto(f"{server.url}/?run=normal")
    expect(page.locator("[data-testid=stApp][data-test-script-state=notRunning]")).to_be_visible(timeout=60_000)
    expect(page.get_by_text("This server answers other machines")).to_have_count(0)
    get = "GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n"
    assert ask(port, get.format(f"localhost:{port}"))[0] == 200
    for host in ("evil.example", f"evil.example:{port}", "localhost.evil.example", "169.254.169.254"):
        # Streamlit hands its empty page to any Host; what is in a run comes through the session alone.
        assert "normal" not in ask(port, get.format(host))[1]
        assert upgrade(port, host, None) >= 400, host
    agent = "POST /_stcore/agent/interact HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"
    assert ask(port, agent)[0] >= 400, "no other way into a session"
    assert upgrade(port, f"localhost:{port}", f"http://localhost:{port}") == 101
    for origin in ("http://evil.example", f"http://evil.example:{port}", "null", "file://"):
        assert upgrade(port, f"localhost:{port}", origin) >= 400, origin

    upload = "PUT /_stcore/upload_file/a/b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
    assert 400 <= ask(port, upload)[0] < 500

    assert not watched.exists(), watched.read_text()
    record(
        "Who is answered",
        "4 Hosts, 4 Origins",
        "foreign ones refused; server looked up and connected to nothing outside",
    )


def test_a_server_that_has_shown_no_page_looks_nothing_up(tmp_path: Path, serve: Callable[..., Server]) -> None:
    """A foreign Origin on a server that nobody has opened yet."""
    watched = tmp_path / "watched"
    server = serve(tmp_path, PYTHONPATH=str(Path(__file__).parent / "watching"), GCWM_WATCH=str(watched))
    for origin in ("http://evil.example", f"http://evil.example:{server.port}", "null"):
        assert upgrade(server.port, f"localhost:{server.port}", origin) >= 400, origin
    assert not watched.exists(), watched.read_text()


@pytest.mark.parametrize(
    ("address", "own"),
    [
        *(("localhost", True), ("127.0.0.1", True), ("127.0.1.1", True), ("::1", True), ("[::1]", True)),
        *((None, False), ("", False), ("0.0.0.0", False), ("::", False), ("10.0.0.5", False), ("example.org", False)),
    ],
)
def test_what_counts_as_this_machine(address: str | None, own: bool) -> None:
    assert is_loopback(address) is own


def test_configuration_is_closed_by_default() -> None:
    settings = tomllib.loads((REPOSITORY / ".streamlit" / "config.toml").read_text())
    server = settings["server"]
    assert is_loopback(server["address"])
    assert set(server["allowedHosts"]) == {"localhost", "127.0.0.1"}
    assert server["enableXsrfProtection"] is True
    assert server["enableCORS"] is True
    assert server["maxUploadSize"] <= 1
    assert settings["browser"]["gatherUsageStats"] is False
    assert settings["client"]["showErrorDetails"] in ("type", "none")


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def app_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run root with one run, a folder outside it, and a current folder elsewhere."""
    root = tmp_path / "runs"
    write_run(root, "normal")
    outside = tmp_path / "outside"
    write_run(outside, "normal", name="secret")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "argv", ["app.py", "--run-root", str(root)])
    return root


def test_paths_outside_the_roots_are_refused(
    app_root: Path, tmp_path: Path, record: Callable[[str, str, str], None]
) -> None:
    (app_root / "link").symlink_to(tmp_path / "outside" / "secret")
    (app_root / "normal" / "up").symlink_to("/etc")
    (app_root / "loop").symlink_to(app_root / "loop")
    refused = (
        *("/etc/passwd", "/", "../outside/secret", f"{app_root}/../outside", f"{app_root}/link"),
        *(f"{app_root}/normal/up/passwd", f"{app_root}/loop", "~root/.bashrc", "a\0b", "a\nb", "x" * 5000),
        *(f"{app_root}x", "~nobody-of-this-name/x"),
        *(f"{app_root}/normal+{tmp_path}/outside", f"{tmp_path}/outside+{app_root}/normal"),
    )
    for path in refused:
        with pytest.raises(InputError):
            roots.within(path)
    allowed = (app_root, app_root / "normal", ".", "models/base", tmp_path / "cache" / "models--a--b")
    for folder in allowed:
        assert roots.within(folder).is_absolute()
    assert roots.within(f"{app_root}/normal+{app_root}/normal").name == "normal"
    for name in ("..", ".", "", "../outside/secret", "/etc", "a/b", "normal/../../outside/secret", "link", "a\0"):
        with pytest.raises(InputError):
            roots.run_folder(name)
    assert roots.run_folder("normal") == app_root / "normal"
    with pytest.raises(InputError, match="outside the folders that this app may use"):
        load_run(app_root / "link")
    record("Paths outside the app's folders", f"{len(refused)} paths, 9 run names", "refused in one sentence")


def test_more_folders_are_named_at_the_start(app_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--allow", str(tmp_path / "outside")])
    (app_root / "link").symlink_to(tmp_path / "outside" / "secret")
    assert roots.run_folder("link") == tmp_path / "outside" / "secret"
    assert run_names(app_root) == ["link", "normal"]


class Spy(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """A driver that remembers having been asked."""

    asked: ClassVar[list[str]] = []

    def info(self, path: str, **kwargs: Any) -> None:
        self.asked.append(path)
        raise FileNotFoundError(path)

    ls = info


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    pytest.importorskip("upath", reason="universal-pathlib is not installed (the extra `remote`)")
    for protocol in ("http", "https", "s3"):
        monkeypatch.setitem(_registry, protocol, Spy)
    location("https://models.example/known").exists()
    assert Spy.asked, "the spy is in its place"
    Spy.asked.clear()
    return Spy.asked


REFUSED_URLS = (
    *(
        "http://169.254.169.254/latest/meta-data",
        "https://models.example/",
        "s3://bucket/x",
        "HTTPS://models.example/a",
    ),
    *(
        "https://models.example/allowed/../x",
        "https://models.example/allowed/%2e%2e/x",
        "https://models.example/allowedx",
    ),
    *("https://models.example/allowed/a::https://evil.example/b", "simplecache::https://models.example/allowed"),
)


@pytest.mark.parametrize("url", REFUSED_URLS)
def test_nothing_is_fetched_for_a_visitor(
    app_root: Path, spy: list[str], monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--allow", "https://models.example/allowed"])
    with pytest.raises(InputError, match="reads only those named when it was started"):
        roots.within(url)
    with pytest.raises(InputError, match="reads only those named"):
        folder_picker.contents(url)
    plan = f"base: {url}\nupdates: [{{name: a, path: {app_root}}}]\n"
    state = {"start-upload": SimpleNamespace(name="plan.yaml", getvalue=plan.encode)}
    monkeypatch.setattr(st, "session_state", state)
    plan_form._use_upload()
    assert state[plan_form.PROBLEM]
    assert plan_form.ROWS not in state
    assert not spy


def test_urls_in_the_form_are_refused_with_a_sentence(
    app_root: Path, open_page: Callable[..., AppTest], spy: list[str]
) -> None:
    app = open_page("pages/0_Start.py", root=app_root)
    for key in ("start-base", "start-path-1", "start-probes"):
        values = {"start-base": ".", "start-name-1": "a", "start-path-1": ".", "start-probes": ""}
        for name, value in (values | {key: "https://models.example/x"}).items():
            app.text_input(key=name).set_value(value)
        app.run()
        assert not app.exception
        assert any("is a URL" in element.value for element in app.text), key
    assert not spy


def test_a_url_named_at_the_start_is_read(app_root: Path, spy: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--allow", "https://models.example/allowed/"])
    for url in ("https://models.example/allowed", "https://models.example/allowed/a/b+c"):
        assert str(roots.within(url)) == url
    assert roots.allowed_roots()[0] == app_root
    assert not spy  # naming is not asking


def test_a_public_address_and_a_link_out_are_said_on_the_page(
    app_root: Path, tmp_path: Path, serve: Callable[..., Server], window: Callable[[], Page]
) -> None:
    (app_root / "link").symlink_to(tmp_path / "outside" / "secret")
    server = serve(app_root, "--server.address", "0.0.0.0")
    page = window()
    page.goto(f"{server.url}/Gate?run=link")
    expect(page.get_by_text("This server answers other machines and asks nobody who they are")).to_be_visible()
    expect(page.get_by_text("lies outside the folders that this app may use")).to_be_visible()
    for name in ("../outside/secret", "%2e%2e%2foutside%2fsecret"):
        page.goto(f"{server.url}/Gate?run={name}")
        expect(page.locator("[data-testid=stApp][data-test-script-state=notRunning]")).to_be_visible()
        assert "secret" not in page.locator("[data-testid=stSidebar]").inner_text()


def calls(tree: ast.AST) -> Iterator[tuple[str, str, dict[str | None, str]]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            first = ast.unparse(node.args[0]) if node.args else ""
            yield ast.unparse(node.func), first, {word.arg: ast.unparse(word.value) for word in node.keywords}


ESCAPING = ("legend", "card", "_table")
"""Functions of HTML that escape every text; tests/ui/test_tokens.py, test_answers.py and test_examples.py try them."""


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_no_source_runs_what_it_reads(path: Path) -> None:
    """No pickle, no torch.load, no code of a checkpoint, no shell, no eval, no unsafe YAML, no raw HTML."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = {
        alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    imported |= {(node.module or "").split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not imported & {"pickle", "cPickle", "dill", "joblib", "marshal", "shelve", "cloudpickle"}
    banned = {"torch.load", "torch.jit.load", "np.load", "numpy.load", "pd.read_pickle", "os.system", "eval", "exec"}
    banned |= {"yaml.unsafe_load", "yaml.full_load", "os.popen", "__import__", "components.html"}
    for name, first, words in calls(tree):
        assert name not in banned, name
        if name.endswith(".html"):  # a constant of the file's own, or what one of these escaped
            assert first.strip("_").isupper() or first.split("(")[0] in ESCAPING, first
        if name == "yaml.load":  # a loader of the file's own, derived from the safe one
            assert f"class {words['Loader']}(yaml.SafeLoader)" in path.read_text(encoding="utf-8")
        assert words.get("trust_remote_code", "False") == "False"
        assert words.get("shell", "False") == "False"
        assert words.get("unsafe_allow_html", "False") == "False"
        assert words.get("weights_only", "True") == "True"
        if name.endswith(".from_pretrained"):
            assert words.get("local_files_only") == "True", "nothing is fetched"
            assert words.get("trust_remote_code") == "False"


def test_a_folder_of_pickles_is_told_how_to_convert(tmp_path: Path, record: Callable[[str, str, str], None]) -> None:
    """The files are never opened: loading one of these would leave a file behind."""
    mark = tmp_path / "ran"

    class Trap:
        def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
            return os.mkdir, (str(mark),)

    for name in ("pytorch_model.bin", "model.pt", "weights.ckpt", "adapter_model.bin", "x.pkl"):
        folder = tmp_path / name.replace(".", "-")
        folder.mkdir()
        (folder / name).write_bytes(pickle.dumps(Trap()))
        for path in (folder, folder / name):
            with pytest.raises(InputError, match="expected safetensors: convert them where you trust the file, with"):
                CheckpointIndex.open(path)
    assert not mark.exists()
    record("Pickles", "5 kinds of file with a trap inside", "never opened; told how to convert")


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    """A base whose config points at Python of its own: refused by name, and the Python not run."""
    arguments = write_inputs(tmp_path)
    base = tmp_path / "base"
    mark = tmp_path / "ran"
    (base / "modeling_evil.py").write_text(f"import os\nos.mkdir({str(mark)!r})\nclass Evil: pass\n")
    config = json.loads((base / "config.json").read_text())
    config |= {"auto_map": {"AutoModelForCausalLM": "modeling_evil.Evil", "AutoConfig": "modeling_evil.Evil"}}
    config["model_type"] = "evil"
    (base / "config.json").write_text(json.dumps(config))
    assert main(["run", *arguments, "--out", str(tmp_path / "run"), "--workers", "1"]) == 2
    assert not mark.exists()


# --- limits ----------------------------------------------------------------------------------------------------------


def test_sizes_are_bounded_with_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dev = tmp_path / "dev"
    dev.mkdir()
    line = '{"prompt": "a", "answer": "b"}\n'

    def says(match: str) -> None:
        with pytest.raises(InputError, match=match):
            tasks.load_tasks(tmp_path)

    monkeypatch.setattr(lines, "MAX_FILES", 3)
    for number in range(4):
        (dev / f"{number}.jsonl").write_text(line)
    says("expected at most 3 probe files, found 4")
    shutil.rmtree(dev)
    dev.mkdir()
    (dev / ("n" * 101 + ".jsonl")).write_text(line)
    says("is a task's name, expected at most 100 printable characters")
    (dev / ("n" * 101 + ".jsonl")).rename(dev / "new\nline.jsonl")
    says("is a task's name")
    (dev / "new\nline.jsonl").rename(dev / "ok.jsonl")
    (dev / "ok.jsonl").write_text(line * (lines.MAX_EXAMPLES + 1))
    says(f"expected at most {lines.MAX_EXAMPLES} examples")
    (dev / "ok.jsonl").write_text('{"prompt": "a", "answer": "\\ud800"}\n')
    says("half a surrogate pair")
    (dev / "ok.jsonl").write_text('{"prompt": "a", "answer": ' + "9" * 10_000 + "}\n")
    says("expected a JSON object")
    with (dev / "ok.jsonl").open("wb") as file:
        file.truncate(lines.MAX_FILE_BYTES + 1)
    says("bytes of probes")


def test_dependencies_are_pinned() -> None:
    for file in ("requirements.txt", "requirements-dev.txt"):
        lines = (REPOSITORY / file).read_text().splitlines()
        pinned = [line for line in lines if line and line[0] not in "#-"]
        assert pinned
        assert all("==" in line for line in pinned), pinned
