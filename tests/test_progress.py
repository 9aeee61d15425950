"""Interrupts of a command are not lost, and are not raised where Python drops them."""

from __future__ import annotations

import sys

import jax._src.lib as jax_internals
import pytest

from natgeo import progress


@pytest.fixture(autouse=True)
def no_interrupt_is_pending():
    progress.forget_interrupts()
    yield
    progress.forget_interrupts()


def test_an_interrupt_is_raised_at_once():
    with pytest.raises(KeyboardInterrupt):
        progress.interrupt(2, sys._getframe())
    with pytest.raises(KeyboardInterrupt):
        progress.interrupt(2, None)


def test_in_a_garbage_collector_callback_it_waits_for_the_next_step():
    def deeper():
        progress.interrupt(2, sys._getframe())

    def _xla_gc_callback():
        deeper()

    _xla_gc_callback()
    with pytest.raises(KeyboardInterrupt):
        progress.raise_if_interrupted()
    with pytest.raises(KeyboardInterrupt), progress.Progress("work") as bar:
        bar.advance()


def test_the_callback_of_jax_still_has_this_name():
    assert hasattr(jax_internals, progress._COLLECTOR)
