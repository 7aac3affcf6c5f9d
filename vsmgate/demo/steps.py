"""Long work in steps: a generator that yields the share that is done and returns its result.

Whoever drives one may stop between two steps, and nothing more happens.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeAlias, TypeVar

__all__ = ["Steps", "finish", "within"]

T = TypeVar("T")
Steps: TypeAlias = Generator[float, None, T]


def finish(steps: Steps[T]) -> T:
    """All of the work at once."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


def within(low: float, high: float, steps: Steps[T]) -> Steps[T]:
    """The same work as a part of larger work: its shares go from ``low`` to ``high``."""
    while True:
        try:
            share = next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
        yield low + (high - low) * share
