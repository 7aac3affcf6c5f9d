"""What holds for every test: strictness about errors, and this checkout's plugins."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import twisted.plugins
from twisted.logger import LogEvent, globalLogPublisher
from twisted.python.failure import Failure

TESTS = Path(__file__).parent
PLUGINS = TESTS.parent / "plugins"

if str(PLUGINS) not in twisted.plugins.__path__:
    twisted.plugins.__path__.append(str(PLUGINS))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer ``--conformance``."""
    parser.addoption("--conformance", action="store_true", help="run the slow conformance cases")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what was not asked for."""
    if config.getoption("--conformance"):
        return
    slow = [item for item in items if item.get_closest_marker("conformance")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]


@pytest.fixture(autouse=True, scope="module")
def _set_aside() -> None:
    """Set aside what imports, and tests before, made: so collecting after each test is cheap."""
    gc.collect()
    gc.freeze()


class LoggedFailures:
    """The failures that were logged during one test; as trial's ``flushLoggedErrors``."""

    def __init__(self) -> None:
        self.failures: list[Failure] = []

    def __call__(self, event: LogEvent) -> None:
        failure = event.get("log_failure") or event.get("failure")
        if failure is not None:
            self.failures.append(failure)

    def flush(self, *types: type[BaseException]) -> list[Failure]:
        """Return the failures of ``types`` (none given: all), and forgive them."""
        # A Deferred that nobody listens to tells of its failure when it is collected.
        gc.collect()
        found = [f for f in self.failures if not types or f.check(*types)]
        self.failures = [f for f in self.failures if f not in found]
        return found


@pytest.fixture(autouse=True)
def _logged_failures() -> Iterator[LoggedFailures]:
    """Fail a test that logged a failure or dropped a failed Deferred."""
    gc.collect()  # what another test left is not this test's
    logged = LoggedFailures()
    globalLogPublisher.addObserver(logged)
    try:
        yield logged
        rest = logged.flush()
    finally:
        globalLogPublisher.removeObserver(logged)
    if rest:
        told = "\n".join(f.getTraceback() for f in rest)
        pytest.fail(f"{len(rest)} logged failure(s) or dropped Deferred(s):\n{told}", pytrace=False)


@pytest.fixture
def flush_logged(
    _logged_failures: LoggedFailures,
) -> Callable[..., list[Failure]]:
    """Return the escape: ``flush_logged(SomeError)`` gives and forgives what was logged."""
    return _logged_failures.flush


@pytest.fixture
def logged() -> Iterator[list[LogEvent]]:
    """Return the events that are logged during the test."""
    events: list[LogEvent] = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)


@pytest.fixture
def require() -> Callable[[object, str], None]:
    """Return a check for something outside: ``require(shutil.which("sbatch"), "sbatch")``.

    Without it the test is skipped with that reason; under CI it fails, so that no test is
    silently left out where everything is supposed to be there.
    """

    def check(found: object, what: str) -> None:
        if found:
            return
        if os.environ.get("CI") == "true":
            pytest.fail(f"{what} is missing, and CI must have it", pytrace=False)
        pytest.skip(f"{what} is missing")

    return check
