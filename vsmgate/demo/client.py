"""The ordinary client of Brayns, from the package ``brayns``, on every Python.

Version 3.10 is its last, and makes properties of classes by ``@classmethod`` on top of
``@property``. Python 3.13 took that away, so it is given back while the package is imported.
"""

from __future__ import annotations

import builtins
from typing import Any

__all__ = ["brayns"]


class _Chaining(classmethod):  # type: ignore[type-arg]  # only while brayns is imported
    """`classmethod` as it was up to Python 3.12: what it wraps may be a property."""

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if isinstance(self.__func__, property):
            return self.__func__.__get__(owner)
        return super().__get__(instance, owner)


_usual = builtins.classmethod
builtins.classmethod = _Chaining  # type: ignore[misc]
try:
    import brayns
finally:
    builtins.classmethod = _usual  # type: ignore[misc]
