"""Log observers that write text lines to stderr, one for each level of ``[log]``.

They are module attributes because ``twistd`` takes a log observer by its name.
"""

from __future__ import annotations

import sys
from functools import partial

from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    textFileLogObserver,
)

__all__ = ["debug", "error", "info", "warn"]


def _to_stderr(level: LogLevel) -> ILogObserver:
    predicate = LogLevelFilterPredicate(defaultLogLevel=level)
    if level is LogLevel.info:  # two lines for each connection to an engine say nothing
        predicate.setLogLevelForNamespace("twisted.web.client._HTTP11ClientFactory", LogLevel.warn)
    return FilteringLogObserver(textFileLogObserver(sys.__stderr__ or sys.stderr), [predicate])


debug = partial(_to_stderr, LogLevel.debug)
info = partial(_to_stderr, LogLevel.info)
warn = partial(_to_stderr, LogLevel.warn)
error = partial(_to_stderr, LogLevel.error)
