"""The configuration file, read whole."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from vsmgate import config_file
from vsmgate.auth.static import StaticSettings
from vsmgate.config import Config, PluginConfig
from vsmgate.errors import ConfigError
from vsmgate.launchers.local import LocalSettings
from vsmgate.stores.sql import SqlSettings
from vsmgate.usecases.files import TomlSourceSettings

ROOT = Path(__file__).parent.parent
SMALLEST = """
[authenticators.tokens]
kind = "static"
[launchers.local]
kind = "local"
grace = 3.5
[usecases.files]
kind = "toml"
"""


def refused(text: str) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        config_file.parse(text, "x.toml")
    assert caught.value.source == "x.toml"
    return {problem.pointer: problem.detail for problem in caught.value.problems}


def test_the_smallest_file_has_the_defaults() -> None:
    read = config_file.parse(SMALLEST, "x.toml")
    assert read == Config(
        launchers={"local": PluginConfig("local", {"grace": 3.5})},
        authenticators={"tokens": PluginConfig("static", {})},
        usecases={"files": PluginConfig("toml", {})},
    )


def test_authenticators_keep_their_order() -> None:
    names = ["zeta", "alpha", "midst"]
    text = SMALLEST + "".join(f'[authenticators.{name}]\nkind = "static"\n' for name in names)
    assert list(config_file.parse(text, "x").authenticators) == ["tokens", *names]


def test_every_error_is_told_at_once() -> None:
    found = refused(
        """
        roll = "all"
        [master]
        port = 70000
        [relay]
        drain = -1
        [jobs]
        lifetime = "8h"
        [launchers.local]
        grace = 3
        [authenticators.tokens]
        kind = 7
        token = "t0p"
        [usecases]
        files = "toml"
        """
    )
    assert set(found) == {
        "roll", "master.port", "relay.drain", "jobs.lifetime", "launchers.local.kind",
        "authenticators.tokens.kind", "authenticators.tokens.token", "usecases.files",
    }  # fmt: skip
    assert found["roll"] == "unknown key; did you mean 'role'?"
    assert "70000" in found["master.port"]
    assert "0 to 65535" in found["master.port"]
    assert "token_file" in found["authenticators.tokens.token"]
    assert "t0p" not in str(found)


@pytest.mark.parametrize(
    ("text", "pointer", "detail"),
    [
        ("[relay]\nport = 4444", "relay.port", "4444 is master.port too"),
        ("[relay]\nport = 4444\nhost = '0.0.0.0'", "relay.port", "4444 is master.port too"),
        ("[relay]\nhost = 'x:1'", "relay.host", "'x:1' is no address to listen at"),
        ("[relay]\nbase_path = 'vsm/'", "relay.base_path", "'vsm/' must be empty or like"),
        ("[relay]\npublic_base = 'wss://x'", "relay.public_base", "'wss://x' must be host"),
        ("[relay]\nallowed_origins = ['*']", "relay.allowed_origins[0]", "'*' is no origin"),
        ("[relay]\ntrusted_proxies = ['x']", "relay.trusted_proxies[0]", "'x' is no network"),
        ("[relay]\ndial_timeout = 5.0", "relay.handshake_timeout", "this is 10 s; clients wait"),
        ("[jobs]\nlifetime = 90000", "jobs.lifetime", "90000 is more than jobs.max_lifetime"),
        ("[jobs]\npoll_fastest = 9", "jobs.poll_fastest", "9 is more than jobs.poll_interval"),
        ("[launchers.'a b']\nkind = 'x'", 'launchers."a b"', "is no good name here"),
        (
            "[launchers.b]\nkind = 'x'\ntargets = ['10.0.0.1/8']",
            "launchers.b.targets[0]",
            "network",
        ),
        (
            "[launchers.b]\nkind = 'x'\ntargets = ['127.1']",
            "launchers.b.targets[0]",
            "is no target",
        ),
        ("[store]\nkind = 'sql'\nurl = 'x://u:p@h/d'", "store.url", "url_env"),
    ],
)
def test_values_that_do_not_go_together(text: str, pointer: str, detail: str) -> None:
    found = refused(SMALLEST + text)
    assert list(found) == [pointer]
    assert detail in found[pointer]


@pytest.mark.parametrize(
    "text",
    [
        "[relay]\nport = 0\n[master]\nport = 0",
        "[relay]\nport = 4444\nhost = '127.0.0.2'",
        "[relay]\nport = 4444\n[launchers.b]\nkind = 'local'",
    ],
)
def test_ports_that_only_look_the_same(text: str) -> None:
    role = "role = 'master'\n" if "launchers.b" in text else ""
    config_file.parse(role + SMALLEST + text, "x")


def test_each_role_needs_its_plugins() -> None:
    assert set(refused("")) == {"authenticators", "launchers", "usecases"}
    assert set(refused("role = 'relay'")) == {"authenticators"}
    assert "[launchers.local] with kind = 'local'" in refused("")["launchers"]


def test_overrides() -> None:
    read = config_file.parse(SMALLEST, "x")
    assert config_file.override(read) == read
    changed = config_file.override(
        read, state_dir="here", role="relay", master_port=1, relay_port=2
    )
    assert (changed.state_dir, changed.role) == ("here", "relay")
    assert (changed.master.port, changed.relay.port) == (1, 2)
    assert changed.launchers == read.launchers


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"relay_port": 4444}, "relay.port"),
        ({"master_port": 70000}, "master.port"),
        ({"role": "boss"}, "role"),
    ],
)
def test_overrides_are_checked(changes: dict[str, object], pointer: str) -> None:
    read = config_file.parse(SMALLEST, "x")
    with pytest.raises(ConfigError, match=f"command line: {pointer}: "):
        config_file.override(read, **changes)  # type: ignore[arg-type]  # that is the point


def test_a_role_may_need_more_than_the_file_has() -> None:
    text = "role = 'relay'\n[authenticators.tokens]\nkind = 'static'\n"
    with pytest.raises(ConfigError, match="launchers"):
        config_file.override(config_file.parse(text, "x"), role="all")


def test_the_state_directory_starts_at_the_file(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    for line, expected in (
        ("state_dir = 'state'", f"{tmp_path}/state"),
        ("state_dir = '/srv/x'", "/srv/x"),
        ("", "var"),
    ):
        path.write_text(f"{line}\n{SMALLEST}")
        assert config_file.load(path).state_dir == expected


def test_a_missing_file_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read: no such file"):
        config_file.load(tmp_path / "none.toml")


@pytest.mark.parametrize("name", ["vsmgate.toml", "production.toml"])
def test_shipped_files_are_good(name: str) -> None:
    config_file.load(ROOT / "conf" / name)


def test_what_the_embedded_file_comments_out_are_the_defaults() -> None:
    text = (ROOT / "conf" / "vsmgate.toml").read_text()
    lines = []
    for line in text.splitlines():
        bare = line.removeprefix("#")
        key, equals, value = bare.partition("=")
        is_key = equals and key.strip().isidentifier() and value.partition("#")[0].strip()
        lines.append(bare if is_key and "folder" != key.strip() else line)
    assert config_file.parse("\n".join(lines), "x") == config_file.parse(text, "x")
    assert len([line for line in text.splitlines() if line not in lines]) > 15


def keys(kind: type[msgspec.Struct], where: str = "") -> dict[str, object]:
    """Return dotted key -> default of every key that a file may have."""
    found: dict[str, object] = {}
    for field in msgspec.structs.fields(kind):
        key = f"{where}{field.encode_name}"
        if isinstance(field.default, msgspec.Struct) and not isinstance(
            field.default, PluginConfig
        ):
            found.update(keys(type(field.default), f"{key}."))
        else:
            found[key] = field.default
    return found


def test_every_key_is_documented_with_its_default() -> None:
    page = (ROOT / "docs/configuration.md").read_text()
    rows = {}
    for line in page.splitlines():
        cells = [cell.strip().strip("`") for cell in line.strip("|").split(" | ")]
        if line.startswith("| `") and len(cells) == 3:
            rows[cells[0].strip("| `")] = cells[1]
    expected = keys(Config)
    expected["targets"] = None  # of every launcher
    for settings in (SqlSettings, LocalSettings, StaticSettings, TomlSourceSettings):
        expected.update(keys(settings))
    for key, default in expected.items():
        assert key in rows, f"docs/configuration.md lacks {key}"
        if isinstance(default, bool | int | float | str):
            shown = msgspec.json.encode(default).decode()
            assert rows[key] == shown, f"docs/configuration.md has another default for {key}"
    assert set(rows) == set(expected)
