"""``python -m vsmgate.simulators NAME [options]``: run a stand-in in the foreground."""

from __future__ import annotations

import sys
from collections.abc import Sequence
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
    if arguments[:1] in (["-h"], ["--help"]):
        sys.stdout.write(_usage(known) + "\n")
    elif not arguments or arguments[0] not in known:
        sys.exit(_usage(known))
    else:
        import_module(f"vsmgate.simulators.{arguments[0]}").main(arguments[1:])


def _usage(known: Sequence[str]) -> str:
    """Return the stand-ins with the first line of what each says of itself."""
    lines = ["usage: bin/simulate NAME [--help]"]
    for name in known:
        told = import_module(f"vsmgate.simulators.{name}").__doc__ or ""
        lines.append(f"  {name:<12}{told.partition(': ')[2].partition(chr(10))[0]}")
    return "\n".join(lines)


if __name__ == "__main__":
    main(sys.argv[1:])
