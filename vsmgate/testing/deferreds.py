"""Coroutines in tests: one as a test, and many at once."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import Any, ParamSpec, TypeVar, cast

import pytest_twisted
from twisted.internet.defer import Deferred, DeferredList

__all__ = ["deferred", "gather"]

P = ParamSpec("P")
T = TypeVar("T")


def deferred(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Let pytest run ``test`` on the reactor (`pytest_twisted.ensureDeferred`, typed)."""
    return cast("Callable[P, None]", pytest_twisted.ensureDeferred(test))


async def gather(calls: Iterable[Coroutine[Any, Any, T]]) -> tuple[list[T], list[BaseException]]:
    """Run all at once; return the results, and the errors of those that failed."""
    results: list[T] = []
    errors: list[BaseException] = []
    running = [
        Deferred.fromCoroutine(call).addCallbacks(
            results.append, lambda failure: errors.append(failure.value)
        )
        for call in calls
    ]
    await DeferredList(running)
    return results, errors
