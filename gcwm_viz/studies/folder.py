"""Where a study's results lie. They belong to what they were made from: nothing of anything else is put beside them."""

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from gcwm_viz.checkpoints.atomic import named_write_errors, partial_name, write_json
from gcwm_viz.continual.config import as_written_now
from gcwm_viz.continual.folder import WorkFolder
from gcwm_viz.errors import InputError
from gcwm_viz.runs.run import Progress

LONGEST_SHOWN = 40
"""Characters of a text that is worth reading; a fingerprint is longer."""


class StudyFolder(WorkFolder):
    """OUT with ``file``, which says what the study is about, beside lock and journal.

    ``holds``: what the folder has, in words (a sweep of, …). ``progress``: whom :meth:`tell` tells.
    ``before``: what may lie there before the study begins.
    """

    def __init__(
        self, path: Path, file: str, holds: str, progress: Progress | None = None, before: Collection[str] = ()
    ) -> None:
        super().__init__(path)
        self._file, self._holds, self._progress = path / file, holds, progress
        # A study that was killed as it began leaves the lock and a partial file.
        self._before = {"lock", partial_name(self._file).name, *before}

    @contextmanager
    def work(self, about: Mapping[str, Any], same: Collection[str] | None = None) -> Iterator[Self]:
        """Work in the folder inside this block: it is about ``about`` from now on, or was so already.

        ``same``: entries that must not differ from those there, by default all of them; the others are replaced.

        Raises :class:`InputError` for a folder with other content, of another study, or in which another process works.
        """
        about = json.loads(json.dumps(about))  # as it is read back: a tuple is a list there
        self._check(about, same)  # a folder that is refused is left as it was
        with named_write_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        with self.lock():
            self._check(about, same)  # another process may have been faster
            if same is not None or not self._file.is_file():
                write_json(self._file, about)
            self.clear_cancel()
            self.log("start")
            with self.failure_in_journal():
                yield self

    def tell(self, phase: str, done: int, total: int, label: str, event: str = "") -> None:
        """Hand progress on, as an ``event`` to the journal too where one is named.

        Raises :class:`~gcwm_viz.continual.folder.WorkCancelledError` when a stop was asked for.
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
            present = json.loads(self._file.read_bytes())
        except ValueError as error:
            raise InputError(f"{self._file} is not valid JSON: {error}") from None
        for entry in about if same is None else same:
            value, other = about[entry], present.get(entry) if isinstance(present, dict) else None
            if entry == "settings":
                other = as_written_now(other)
            if other != value:
                readable = isinstance(value, str) and isinstance(other, str) and len(value + other) <= 2 * LONGEST_SHOWN
                shown = f": {other!r}, not {value!r}" if readable else ""
                raise InputError(f"{self.path} holds {self._holds} another {entry}{shown}; use another output folder")
