"""Reading ahead: the same items, the same errors, no thread left, and time saved."""

import signal
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natgeo import progress
from natgeo.errors import DataError
from natgeo.features import ahead
from natgeo.features import featurize as module
from natgeo.features.ahead import Ahead
from natgeo.features.featurize import featurize
from natgeo.features.projectors import Identity

X = np.float32(np.random.default_rng(3).normal(size=(24, 5)))


def output(params, x):
    return jnp.sum(params["w"] * x)


def run(data, **options):
    options = {"batch_size": 4, **options}
    return featurize(output, {"w": X[0]}, data, Identity(), **options)


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert not [t for t in threading.enumerate() if t.name == "natgeo-ahead"]


@pytest.mark.parametrize("depth", [0, 1, 2, 100])
def test_the_items_come_in_order(depth):
    with Ahead(iter(range(30)), depth) as items:
        assert list(items) == list(range(30))
        assert next(items, None) is None


@pytest.mark.parametrize("depth", [1, 3])
def test_it_runs_ahead_by_so_many_items_and_no_more(depth):
    made = []

    def source():
        for number in range(20):
            made.append(number)
            yield number

    with Ahead(source(), depth) as items:
        for taken in range(3):
            assert next(items) == taken
            deadline = time.monotonic() + 5
            # In the queue, and the one that waits to get in.
            while len(made) < taken + depth + 2 and time.monotonic() < deadline:
                time.sleep(0.001)
            time.sleep(0.02)
            assert len(made) == taken + depth + 2


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_errors_of_the_source_come_after_the_items_before_them(error):
    def source():
        yield 1
        yield 2
        raise error("so it is")

    with Ahead(source(), 4) as items:
        time.sleep(0.02)
        assert [next(items), next(items)] == [1, 2]
        with pytest.raises(error, match="so it is"):
            next(items)


def test_a_consumer_that_stops_ends_the_thread_and_the_source():
    closed = []

    def source():
        try:
            while True:
                yield 0
        finally:
            closed.append(True)

    def consume():
        with Ahead(source(), 2) as items:
            return 1 / next(items)

    with pytest.raises(ZeroDivisionError):
        consume()
    assert closed == [True]


def test_a_source_that_hangs_does_not_keep_the_consumer(monkeypatch):
    monkeypatch.setattr(ahead, "_FAREWELL_S", 0.05)
    gate = threading.Event()

    def source():
        yield 0
        gate.wait(30)

    start = time.monotonic()
    with Ahead(source(), 1) as items:
        next(items)
    assert time.monotonic() - start < 20  # it did not wait for the source
    gate.set()
    for thread in threading.enumerate():
        if thread.name == "natgeo-ahead":
            thread.join(5)


def test_an_interrupt_that_got_lost_is_found_while_waiting(monkeypatch):
    monkeypatch.setattr(ahead, "_LOOK_S", 0.01)
    gate = threading.Event()

    def source():
        gate.wait(30)
        yield 0

    with Ahead(source(), 1) as items:
        progress._interrupted.set()
        with pytest.raises(KeyboardInterrupt):
            next(items)
        progress.forget_interrupts()
        gate.set()


@pytest.fixture
def signals_of_a_command():
    # Not Python's own handler: inside JAX's collector callback its exception is
    # dropped, and a consumer would then wait for ever.
    before = signal.signal(signal.SIGINT, progress.interrupt)
    yield
    signal.signal(signal.SIGINT, before)
    progress.forget_interrupts()


@pytest.mark.usefixtures("signals_of_a_command")
def test_an_interrupt_reaches_a_consumer_that_waits():
    gate = threading.Event()

    def source():
        gate.wait(30)
        yield 0

    main = threading.main_thread().ident
    timer = threading.Timer(0.1, lambda: signal.pthread_kill(main, signal.SIGINT))

    def wait():
        with Ahead(source(), 1) as items:
            try:
                timer.start()
                next(items)
            finally:
                gate.set()

    # Wherever it comes, it is inside: it must never reach the test runner.
    with pytest.raises(KeyboardInterrupt):
        wait()


def test_the_thread_sees_the_settings_of_its_maker():
    def source():
        yield jnp.ones(1, float).dtype, str(jax.config.jax_default_matmul_precision)

    with (
        jax.enable_x64(True),
        jax.default_matmul_precision("highest"),
        Ahead(source(), 1) as items,
    ):
        assert list(items) == [(np.float64, "highest")]
    with jax.enable_x64(False), Ahead(source(), 1) as items:
        assert list(items) == [(np.float32, "None")]


def test_making_data_and_computing_features_overlap(monkeypatch):
    """Six batches that take 0.1 s to make and 0.1 s to compute."""
    real = module._compiled_step

    def slow(*arguments):
        step = real(*arguments)

        def slowly(params, batch):
            time.sleep(0.1)
            return step(params, batch)

        return slowly

    def source():
        for part in np.split(X, 6):
            time.sleep(0.1)
            yield part

    run(X)  # compiles
    monkeypatch.setattr(module, "_compiled_step", slow)
    spent = {}
    for prefetch in (2, 0):
        start = time.monotonic()
        made = run(source(), prefetch=prefetch)
        spent[prefetch] = time.monotonic() - start
        np.testing.assert_array_equal(np.asarray(made), X)
    assert spent[0] >= 1.2
    assert spent[2] < spent[0] - 0.3  # 0.5 less, if nothing else runs here


def test_the_next_step_is_begun_before_the_last_result_is_fetched(monkeypatch):
    events = []

    class Result:
        def __init__(self, number):
            self.number = number

        def __array__(self, dtype=None, copy=None):
            events.append(f"fetch {self.number}")
            return X[4 * self.number : 4 * self.number + 4]

    def steps(*_):
        def step(params, batch):
            number = sum(event.startswith("begin") for event in events)
            events.append(f"begin {number}")
            return {"features": Result(number)}

        return step

    monkeypatch.setattr(module, "_compiled_step", steps)
    made = run(X[:12])
    np.testing.assert_array_equal(np.asarray(made), X[:12])
    assert events == [
        "begin 0", "begin 1", "fetch 0", "begin 2", "fetch 1", "fetch 2",
    ]  # fmt: skip


@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_buffer_that_is_filled_again_does_not_change_what_was_read(prefetch):
    def source():
        buffer = np.empty((3, 5), np.float32)
        for start in range(0, len(X), 3):
            buffer[:] = X[start : start + 3]
            yield buffer

    made = run(source(), prefetch=prefetch)
    np.testing.assert_array_equal(np.asarray(made), X)


@pytest.mark.parametrize("prefetch", [0, 2])
def test_the_first_bad_example_is_the_one_that_is_named(prefetch):
    bad = X.copy()
    bad[6, 0] = np.nan

    def source():
        yield bad[:8]
        raise DataError("and the next batch cannot be read")

    with pytest.raises(DataError, match="Example 6"):
        run(source(), prefetch=prefetch)


def test_data_can_be_read_in_the_calling_thread():
    threads = set()

    def source():
        for part in np.split(X, 6):
            threads.add(threading.current_thread())
            yield part

    run(source(), prefetch=0)
    assert threads == {threading.main_thread()}
