"""``python -m vsmgate``: the same as the ``vsmgate`` command."""

from __future__ import annotations

from vsmgate.cli import main

if __name__ == "__main__":
    main(prog_name="vsmgate")
