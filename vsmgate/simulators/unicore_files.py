"""Storages of the UNICORE stand-in: a folder each, listed, read, written over REST."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vsmgate.simulators.unicore_job import mode_of

__all__ = ["Denied", "Storage"]

_RANGE = re.compile(r"bytes=([0-9]*)-([0-9]*)")


class Denied(Exception):
    """What is answered instead: an HTTP status, and words."""

    def __init__(self, status: int, words: str = "") -> None:
        super().__init__(words)
        self.status = status


class Storage:
    """One folder, at ``url``."""

    def __init__(self, folder: Path, url: str) -> None:
        self._folder = folder
        self._url = url

    def properties(self) -> dict[str, Any]:
        """Return what a GET of the storage itself answers."""
        usage = shutil.disk_usage(self._folder)
        links = {"files": "files", "action:copy": "actions/copy"}
        links["action:rename"] = "actions/rename"
        return {
            "resourceStatus": "READY",
            "mountPoint": f"{self._folder}/",
            "umask": "77",
            "description": "",
            "freeSpace": usage.free,
            "usableSpace": usage.free,
            "metadataSupported": False,
            "_links": {
                "self": {"href": self._url},
                **{name: {"href": f"{self._url}/{path}"} for name, path in links.items()},
            },
        }

    def act(self, action: str, parameters: Mapping[str, Any]) -> None:
        """Rename or copy a file."""
        source, target = (self._path(str(parameters.get(key, ""))) for key in ("from", "to"))
        if not source.exists():
            raise Denied(500, f"No such file: {parameters.get('from')}")
        if action == "rename":
            source.rename(target)
        elif action == "copy":
            shutil.copy(source, target)
        else:
            raise Denied(404, f"Action '{action}' not available.")

    def stat(self, name: str) -> dict[str, Any]:
        """Return what is known of a file; of a directory also what is in it."""
        path = self._path(name)
        found = self._properties(path)
        if path.is_dir():
            found["content"] = {
                self._name(inner) + ("/" if inner.is_dir() else ""): self._properties(inner)
                for inner in sorted(path.iterdir())
            }
        found["metadata"] = {}
        found["_links"] = {"parentStorage": {"href": self._url}}
        return found

    def read(self, name: str, asked: str | None) -> tuple[int, bytes]:
        """Return status and octets of a file, or of a range of it."""
        path = self._path(name)
        if path.is_dir():
            raise Denied(406)
        if not path.exists():
            raise Denied(404)
        data = path.read_bytes()
        if asked is None:
            return 200, data
        match = _RANGE.fullmatch(asked.strip())
        if match is None or not (match[1] or match[2]):
            raise Denied(416, f"Range header '{asked}' cannot be parsed")
        # A server refuses the last 100 octets of a file that has fewer.
        first = int(match[1]) if match[1] else len(data) - int(match[2])
        last = int(match[2]) if match[1] and match[2] else len(data) - 1
        if first < 0 or (match[2] and match[1] and last < first):
            raise Denied(416, f"Range header '{asked}' cannot be parsed")
        return 206, data[first : last + 1]

    def write(self, name: str, data: bytes) -> None:
        """Write a file, and make the folders above it."""
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def change(self, name: str, changes: Mapping[str, Any]) -> dict[str, str]:
        """Set the permissions of a file."""
        path = self._path(name)
        if not path.exists():
            raise Denied(404)
        if "permissions" not in changes:
            return {}
        path.chmod(mode_of(str(changes["permissions"])))
        return {"permissions": "OK"}

    def make_folder(self, name: str) -> None:
        """Make a folder, and those above it."""
        self._path(name).mkdir(parents=True, exist_ok=True)

    def remove(self, name: str) -> None:
        """Remove a file, or a folder with all that is in it."""
        path = self._path(name)
        if path.is_dir():
            shutil.rmtree(path)
        elif path.exists():
            path.unlink()
        else:
            raise Denied(500, f"Cannot delete <{name}>")

    def _path(self, name: str) -> Path:
        path = self._folder / name.lstrip("/")
        if ".." in path.parts or not path.resolve().is_relative_to(self._folder.resolve()):
            raise Denied(500, f"The path {name!r} leaves the storage.")
        return path

    def _name(self, path: Path) -> str:
        return f"/{path.relative_to(self._folder)}"

    def _properties(self, path: Path) -> dict[str, Any]:
        try:
            found = path.lstat()
        except OSError:
            raise Denied(404, f"No such file: {path.name}") from None
        letters = [
            letter if found.st_mode >> 8 - i & 1 else "-" for i, letter in enumerate("rwx" * 3)
        ]
        return {
            "isDirectory": path.is_dir(),
            "size": found.st_size,
            "owner": str(found.st_uid),
            "group": str(found.st_gid),
            "permissions": "".join(letters),
            "lastAccessed": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(found.st_mtime)),
        }
