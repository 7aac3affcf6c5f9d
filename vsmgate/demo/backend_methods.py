"""The methods of the backend (BCSB 3.0), but for those that need a circuit library."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vsmgate.demo.entrypoints import Entrypoint, Registry
from vsmgate.demo.folder import Entry, Folder
from vsmgate.demo.jsonrpc import InvalidParams
from vsmgate.demo.schemas import array, choice, number, record, text, truth

__all__ = ["VERSION", "add_core_methods", "add_file_methods", "add_storage_methods"]

VERSION = "3.0.0"
LONGEST_HEADER = 65536
_PATH = record("PathParams", ("path",), path=text("Absolute path below the base directory"))


def add_core_methods(registry: Registry, leave: Callable[[], None]) -> None:
    """Version, introspection, memory. ``leave`` ends the program, and may be called late."""

    def describe(params: Any, _: bytes) -> dict[str, Any]:
        name = params["endpoint"]
        if name not in registry.names:
            raise InvalidParams(f"No schema found for method '{name}'")
        entrypoint = registry.find(name)
        nothing = {"type": "null"}
        return {
            "method": name,
            "description": entrypoint.description,
            "params": nothing if entrypoint.params is None else entrypoint.params,
            "result": nothing if entrypoint.returns is None else entrypoint.returns,
        }

    version = record("VersionResult", version=text("major.minor.patch"))
    kilo = {"type": "object", "description": "Octets"}
    registry.add(
        Entrypoint(
            "version",
            "Application version major.minor.patch",
            lambda *_: {"version": VERSION},
            returns=version,
        ),
        Entrypoint(
            "registry",
            "Available endpoints",
            lambda *_: registry.names,
            returns=array("Names of the endpoints", {"type": "string"}),
        ),
        Entrypoint(
            "schema",
            "Schema of given endpoint",
            describe,
            params=record("SchemaParams", ("endpoint",), endpoint=text("Name of the endpoint")),
            returns={"type": "object", "description": "Schemas of parameters and result"},
        ),
        Entrypoint("quit", "Quit application", lambda *_: leave()),
        Entrypoint(
            "get-memory-info",
            "Available system memory",
            lambda *_: read_memory(Path("/proc/meminfo").read_text()),
            returns=record("MemoryInfoResult", virtual_memory=kilo, swap_memory=kilo),
        ),
    )


def read_memory(report: str) -> dict[str, Any]:
    """The memory of the machine in octets, from the text of Linux's ``/proc/meminfo``."""
    octets = {
        name: int(kibibytes) * 1024
        for name, kibibytes in re.findall(r"^(\S+):\s+(\d+) kB$", report, re.MULTILINE)
    }
    total, available = octets["MemTotal"], octets["MemAvailable"]
    swap, free_swap = octets["SwapTotal"], octets["SwapFree"]
    return {
        "virtual_memory": {
            "total": total,
            "available": available,
            "percent": round(100.0 * (total - available) / total, 1),
            "used": total - available,
            "free": octets["MemFree"],
            "active": octets["Active"],
            "inactive": octets["Inactive"],
            "cached": octets["Cached"],
            "shared": octets["Shmem"],
        },
        "swap_memory": {
            "total": swap,
            "used": swap - free_swap,
            "free": free_swap,
            "percent": round(100.0 * (swap - free_swap) / swap, 1) if swap else 0.0,
        },
    }


def add_file_methods(registry: Registry, folder: Folder) -> None:
    """Files below the base directory."""

    def exists(params: Any, _: bytes) -> dict[str, Any]:
        kind = folder.kind(params["path"])
        return {"exists": kind is not None, "type": kind}

    def list_folder(params: Any, _: bytes) -> dict[str, Any]:
        folders, files = folder.entries(params["path"])
        return {
            "directories": [{"name": entry.name, "path": entry.path} for entry in folders],
            "files": [_write_file(entry) for entry in files],
        }

    def upload(params: Any, _: bytes) -> None:
        content = params["content"].encode()
        if params["base64"]:
            try:
                content = base64.b64decode(content, validate=True)
            except binascii.Error as error:
                raise InvalidParams(f"The content is not base64: {error}") from None
        folder.write(params["path"], content)

    def parse_header(params: Any, _: bytes) -> dict[str, str]:
        return read_nrrd_header(folder.head(params["path"], LONGEST_HEADER))

    entry = {"name": text("Name"), "path": text("Path")}
    registry.add(
        Entrypoint(
            "fs-exists",
            "Inspect given path",
            exists,
            params=_PATH,
            returns=record(
                "ExistsResult",
                exists=truth("True if it is there"),
                type=choice("Type", "file", "directory"),
            ),
        ),
        Entrypoint(
            "fs-get-root",
            "Base directory",
            lambda *_: str(folder.root),
            returns=text("Absolute path"),
        ),
        Entrypoint(
            "fs-list-dir",
            "List directory content",
            list_folder,
            params=_PATH,
            returns=record(
                "ListDirResult",
                directories=array("Directories", record("Directory", **entry)),
                files=array("Files", record("File", **entry, size=number("Octets", "integer"))),
            ),
        ),
        Entrypoint(
            "fs-upload-content",
            "Upload file",
            upload,
            params=record(
                "UploadParams",
                ("path", "content", "base64"),
                path=text("Absolute path below the base directory"),
                content=text("Text, or octets in base64"),
                base64=truth("Whether the content is base64"),
            ),
        ),
        Entrypoint(
            "volume-parse-header",
            "Parse volume header",
            parse_header,
            params=_PATH,
            returns={"type": "object", "description": "Fields of the header"},
        ),
    )


def _write_file(entry: Entry) -> dict[str, Any]:
    return {"name": entry.name, "path": entry.path, "size": entry.size}


def read_nrrd_header(data: bytes) -> dict[str, str]:
    """The fields of an NRRD header, with its version as ``NRRD version``.

    The header ends at the first empty line. Raises `InvalidParams` when there is none.
    """
    head = re.split(rb"\r\n\r\n|\n\n|\r\r", data, maxsplit=1)[0]
    if not head.startswith(b"NRRD"):
        raise InvalidParams("This is not an NRRD volume")
    magic, *lines = re.split(r"[\r\n]+", head.decode("utf-8", "replace"))
    fields = {"NRRD version": magic[4:].strip()}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon and not line.startswith("#"):
            # A key/value pair of the user has ":=" where a field of the format has ": ".
            fields[name] = value.removeprefix("=").strip()
    return fields


def add_storage_methods(registry: Registry) -> None:
    """Values kept for the life of the process, shared by all connections."""
    values: dict[str, str] = {}

    def get(params: Any, _: bytes) -> dict[str, str]:
        try:
            return {"value": values[params["key"]]}
        except KeyError:
            raise InvalidParams(f"No values for key '{params['key']}'") from None

    def put(params: Any, _: bytes) -> None:
        values[params["key"]] = params["value"]

    key, value = text("Name of the value"), text("The value")
    registry.add(
        Entrypoint(
            "storage-session-get",
            "Retreive stored value",
            get,
            params=record("GetParams", ("key",), key=key),
            returns=record("GetResult", value=value),
        ),
        Entrypoint(
            "storage-session-set",
            "Store value",
            put,
            params=record("SetParams", ("key", "value"), key=key, value=value),
        ),
    )
