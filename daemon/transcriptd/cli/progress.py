"""A progress bar on standard error, drawn by rich, which is loaded only where one is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Bar:
    """`with Bar("restoring", shown=…) as bar`; nothing where it is not to be shown."""

    def __init__(self, what: str, *, shown: bool) -> None:
        self.is_shown = shown
        self._what = what
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        if self.is_shown:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

            self._progress = Progress(
                TextColumn(self._what), BarColumn(), MofNCompleteColumn(),
                console=Console(stderr=True), transient=True,
            )  # fmt: skip
            self._task = self._progress.add_task(self._what, total=None)
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def show(self, done: int, total: int) -> None:
        """Show that so many of so many are dealt with."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, total=total, completed=done)
