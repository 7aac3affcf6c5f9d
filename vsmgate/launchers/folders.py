"""Whether files can be written where jobs will."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

__all__ = ["folder_problem"]


def folder_problem(folder: Path, *, write: bool = True) -> str | None:
    """Return what keeps files from being written into ``folder``, or just read; or None.

    A folder that is not there will be made: then the nearest one above it counts. Blocks.
    """
    folder = folder.absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        if write:
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(b"vsmgate")
        else:
            os.listdir(folder)
    except OSError as error:
        verb = "written" if write else "read"
        who = f"the gateway's user (uid {os.geteuid()})"
        return (
            f"The folder {folder} cannot be {verb}: {error.strerror}. Make room there, or let "
            f"{who} in."
        )
    return None
