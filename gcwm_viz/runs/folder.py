"""A folder of results that all come from the same inputs and settings: of a study, or of later work on a run."""

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from gcwm_viz.checkpoints.atomic import partial_name, write_json
from gcwm_viz.continual.config import as_written_now
from gcwm_viz.continual.folder import WorkFolder
from gcwm_viz.errors import InputError, named_write_errors
from gcwm_viz.runs.run import Progress

LONGEST_SHOWN = 40
"""Characters of a text that an error message shows; a fingerprint is longer."""


class ResultFolder(WorkFolder):
    """OUT with ``file``, which describes the work, beside lock and journal.

    ``holds``: kind of the folder's content for messages (a sweep of, …). ``progress``: called by :meth:`tell`.
    ``before``: names of files that may exist before the work begins. ``hint``: what to do about other content.
    """

    def __init__(
        self,
        path: Path,
        file: str,
        holds: str,
        progress: Progress | None = None,
        before: Collection[str] = (),
        *,
        hint: str = "use another output folder",
    ) -> None:
        super().__init__(path)
        self._file, self._holds, self._progress, self._hint = path / file, holds, progress, hint
        # Work killed at its start leaves the lock and a partial file.
        self._before = {"lock", partial_name(self._file).name, *before}

    @contextmanager
    def work(self, about: Mapping[str, Any], same: Collection[str] | None = None) -> Iterator[Self]:
        """Work in the folder inside this block, after its file describes ``about``.

        ``same``: entries that must equal the stored ones, by default all; the others are replaced.

        Raises :class:`InputError` for a folder with other content, of another study, or in which another process works.
        """
        about = json.loads(json.dumps(about))  # as it is read back, with lists for tuples
        self._check(about, same)  # before anything is written
        with named_write_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        with self.lock():
            self._check(about, same)  # another process may have begun in between
            if same is not None or not self._file.is_file():
                write_json(self._file, about)
            self.clear_cancel()
            self.log("start")
            with self.failure_in_journal():
                yield self

    def tell(self, phase: str, done: int, total: int, label: str, event: str = "") -> None:
        """Report progress, and log it as ``event`` in the journal where one is named.

        Raises :class:`~gcwm_viz.continual.folder.WorkCancelledError` where the work was cancelled.
        """
        if event:
            self.log(event, done=done, total=total, label=label)
        if self._progress:
            self._progress(phase, done, total, label)
        self.check_cancel()

    def _check(self, about: Mapping[str, Any], same: Collection[str] | None) -> None:
        if not self._file.is_file():
            if self.path.exists() and (
                not self.path.is_dir() or not {item.name for item in self.path.iterdir()} <= self._before
            ):
                raise InputError(f"output {self.path} already exists and is not empty")
            return
        try:
            stored = json.loads(self._file.read_bytes())
        except ValueError as error:
            raise InputError(f"{self._file} is not valid JSON: {error}") from None
        for entry in about if same is None else same:
            value, other = about[entry], stored.get(entry) if isinstance(stored, dict) else None
            if entry == "settings":
                other = as_written_now(other)
            if other != value:
                readable = isinstance(value, str) and isinstance(other, str) and len(value + other) <= 2 * LONGEST_SHOWN
                values = f": {other!r}, not {value!r}" if readable else ""
                raise InputError(f"{self.path} holds {self._holds} another {entry}{values}; {self._hint}")
