"""An iterator that runs ahead of its consumer, in a thread of its own."""

from __future__ import annotations

import contextlib
import contextvars
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

import jax

from natgeo.progress import raise_if_interrupted

T = TypeVar("T")
_FAREWELL_S = 5.0  # for an item that is being made when the consumer stops
_LOOK_S = 0.5  # how often the consumer looks for an interrupt that got lost


class Ahead(Generic[T]):
    """Items of `source`, of which up to `depth` are made before they are asked for.

    Order, exceptions (KeyboardInterrupt too) and the end are those of `source`. The
    thread ends with the context, after the item it is making; it sees the settings of
    JAX that are local to the thread which made it.

    Args:
        source: what to iterate over.
        depth: items in waiting; 0 runs `source` in the thread of the consumer.
    """

    def __init__(self, source: Iterator[T], depth: int):
        self._depth = depth
        self._here = source if depth == 0 else None
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._stopped = self._ended = False
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        if depth:
            # A copy of the context, for whatever the source keeps in it.
            run = contextvars.copy_context().run
            self._thread = threading.Thread(
                target=run,
                args=(self._run, source, _local_settings()),
                name="natgeo-ahead",
                daemon=True,
            )
            self._thread.start()

    def __enter__(self) -> Ahead[T]:
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._stopped = True
            self._items.clear()
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(_FAREWELL_S)

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        if self._here is not None:
            return next(self._here)
        with self._changed:
            while not self._items and not self._ended:
                self._changed.wait(_LOOK_S)
                raise_if_interrupted()
            if self._items:
                item = self._items.popleft()
                self._changed.notify_all()
                return item
            error, self._error = self._error, None
        if error is not None:
            raise error
        raise StopIteration

    def _run(self, source: Iterator[T], settings: contextlib.ExitStack) -> None:
        error: BaseException | None = None
        try:
            with settings:
                for item in source:
                    if not self._put(item):
                        break
        except BaseException as raised:  # handed over, to be raised in the consumer
            error = raised
        with self._changed:
            self._error, self._ended = error, True
            self._changed.notify_all()

    def _put(self, item: T) -> bool:
        with self._changed:
            while len(self._items) >= self._depth and not self._stopped:
                self._changed.wait()
            if not self._stopped:
                self._items.append(item)
                self._changed.notify_all()
            return not self._stopped


class _LocalSettings(contextlib.ExitStack):
    """Settings of JAX that hold for one thread, entered in another."""

    def __init__(self, scopes: list[Any]):
        super().__init__()
        self._scopes = scopes

    def __enter__(self) -> _LocalSettings:
        for scope, value in self._scopes:
            self.enter_context(scope(value))
        return self


def _local_settings() -> _LocalSettings:
    config: Any = jax.config
    return _LocalSettings(
        [
            (jax.enable_x64, config.jax_enable_x64),
            (jax.default_device, config.jax_default_device),
            (jax.default_matmul_precision, config.jax_default_matmul_precision),
            (jax.numpy_dtype_promotion, config.jax_numpy_dtype_promotion),
            (jax.numpy_rank_promotion, config.jax_numpy_rank_promotion),
        ]
    )
