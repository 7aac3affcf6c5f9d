"""``python -m vsmgate.simulators NAME [options]``: run a stand-in in the foreground."""

from __future__ import annotations

import sys
from importlib import import_module
from pkgutil import iter_modules

import vsmgate.simulators


def main(arguments: list[str]) -> None:
    """Run the ``main(arguments)`` of the module that the first of ``arguments`` names."""
    known = sorted(
        module.name
        for module in iter_modules(vsmgate.simulators.__path__)
        if "_" not in module.name
    )
    if not arguments or arguments[0] not in known:
        sys.exit(f"usage: bin/simulate {{{'|'.join(known)}}} [--help]")
    import_module(f"vsmgate.simulators.{arguments[0]}").main(arguments[1:])


if __name__ == "__main__":
    main(sys.argv[1:])
