"""A progress bar on standard error, shown only for work that takes over a second."""

from __future__ import annotations

import threading
import time
from types import FrameType, TracebackType

_PATIENCE_S = 1.0
_COLLECTOR = "_xla_gc_callback"  # the name of JAX's callback
_interrupted = threading.Event()


def interrupt(number: int, frame: FrameType | None) -> None:
    """A signal handler that cannot be lost: for SIGINT and SIGTERM of a command.

    Python drops an exception that a signal raises inside a garbage-collector callback
    (JAX has one), and prints it. So the request is remembered until the next step of a
    loop, and nothing is raised there.

    Raises:
        KeyboardInterrupt: unless the signal came inside such a callback.
    """
    del number
    _interrupted.set()
    while frame is not None:
        if frame.f_code.co_name == _COLLECTOR:
            return
        frame = frame.f_back
    raise KeyboardInterrupt


def forget_interrupts() -> None:
    """Starts a command with no interrupt pending."""
    _interrupted.clear()


def raise_if_interrupted() -> None:
    """Ends a loop on an interrupt that was requested and got lost.

    Raises:
        KeyboardInterrupt: if there was one.
    """
    if _interrupted.is_set():
        raise KeyboardInterrupt


class Progress:
    """Counts steps of known or unknown total; silent unless `visible`.

    Args:
        label: what is being done.
        total: number of steps, or None if it is not known beforehand.
        visible: False makes every method a no-op.
        done: steps that an earlier run has done; they do not count in the rate.
    """

    def __init__(
        self,
        label: str,
        total: int | None = None,
        *,
        visible: bool = False,
        done: int = 0,
    ):
        self._label, self._total, self._visible = label, total, visible
        self._done, self._start = done, time.monotonic()
        self._bar, self._task = None, None

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, steps: int = 1) -> None:
        """Records `steps` more; starts the bar once a second has passed.

        Raises:
            KeyboardInterrupt: if an interrupt was requested and got lost.
        """
        raise_if_interrupted()
        self._done += steps
        if not self._visible:
            return
        if self._bar is None and time.monotonic() - self._start > _PATIENCE_S:
            self._bar, self._task = _bar(self._label, self._total, self._done)
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done)


def _bar(label: str, total: int | None, done: int):
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.progress import (
        Progress as RichProgress,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        """Steps per second: rows, for most loops."""

        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{speed:,.0f}/s")

    bar = RichProgress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    task = bar.add_task(label, total=total, completed=done)
    bar.start()
    return bar, task
