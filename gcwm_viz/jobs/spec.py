"""What a page needs to start a job, watch it and say how it ended."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from gcwm_viz.jobs.jobs import Job

_ENDINGS = {
    "failed": "{} ended with an error.",
    "cancelled": "{} was cancelled.",
    "died": "{}'s process ended without a message.",
}


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """A job of the command line.

    name: of the job below ROOT/.jobs. key: prefix of the keys of its widgets. subject: of the sentences about it.
    doing: Markdown, shown while it runs. arguments: of ``gcwm-viz``. folder: of its journal and of a request
    to stop; None where it has neither. resumable: started again, it goes on with what it finished.
    """

    name: str
    key: str
    subject: str
    doing: str
    arguments: list[str]
    folder: Path | None = None
    resumable: bool = True

    def ending(self, job: Job) -> str:
        """How ``job`` ended, in words; empty unless it ended before its work was done."""
        sentence = _ENDINGS.get(job.status, "").format(self.subject)
        return f"{sentence} What it finished is kept." if sentence and self.resumable else sentence


def digest(content: str) -> str:
    """16 hexadecimal digits: a name for ``content`` that can be part of a file name."""
    return hashlib.sha256(content.encode()).hexdigest()[:16]
