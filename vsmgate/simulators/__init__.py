"""Stand-ins for engines, each one command: ``bin/simulate NAME --help``.

They speak the engines' real protocols and run real processes, so that a configuration can
be tried, and tested, where no such engine is.
"""

from __future__ import annotations

__all__ = ["told"]

_TOLD = """\
# {what}
# Put these lines at the end of a copy of conf/vsmgate.toml:

{table}

# ... and this one below its [usecases.files]: launcher = "{launcher}"
{hints}# Then: bin/vsmgate check FILE --engines; bin/run --config FILE
# Ctrl-C ends it, and its jobs.
"""


def told(what: str, launcher: str, table: str, *hints: str) -> str:
    """Return what a stand-in prints when it is there: TOML, to be pasted as a whole.

    ``launcher``: the name in ``table``, which is ``[launchers.NAME]``. ``hints``: a line each.
    """
    lines = "".join(f"# {hint}\n" for hint in hints)
    return _TOLD.format(what=what, launcher=launcher, table=table.strip(), hints=lines)
