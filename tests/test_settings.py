"""Every error at once, each with key, value and what is allowed."""

from __future__ import annotations

import re
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import hypothesis
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, Struct

from vsmgate import settings
from vsmgate.errors import ConfigError


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Point(Struct, frozen=True):
    x: int
    y: int = 0

    def __post_init__(self) -> None:
        if self.y > 99:
            raise ValueError(f"y = {self.y} is out of sight")


class Sample(Struct, frozen=True):
    port: Annotated[int, Meta(ge=1, le=65535)]
    ratio: Annotated[float, Meta(gt=0)] = 1.0
    count: Annotated[int, Meta(ge=1)] | None = None
    mode: Literal["fast", "slow"] = "fast"
    colour: Colour = Colour.RED
    points: dict[Annotated[str, Meta(pattern="^[a-z]+$")], Point] = {}
    command: tuple[str | tuple[str, ...], ...] = ()
    pair: tuple[int, str] | None = None
    at: Annotated[datetime, Meta(tz=True)] | None = None
    secret: int = 0
    flag: bool = False
    free: Any = None


def refused(table: object, kind: type = Sample, where: str = "") -> dict[str, str]:
    """Return pointer -> detail of what is wrong with ``table``."""
    with pytest.raises(ConfigError) as caught:
        settings.read(kind, table, source="x.toml", where=where)
    assert caught.value.source == "x.toml"
    return {problem.pointer: problem.detail for problem in caught.value.problems}


def test_values_become_typed() -> None:
    table = {
        "port": 80,
        "ratio": 2,
        "points": {"a": {"x": 1}},
        "command": ["echo", ["-n", "{x}"]],
        "colour": "blue",
    }
    read = settings.read(Sample, table, source="x.toml")
    assert read == Sample(
        80, 2.0, points={"a": Point(1)}, command=("echo", ("-n", "{x}")), colour=Colour.BLUE
    )
    assert isinstance(read.ratio, float)


@pytest.mark.parametrize(
    ("changes", "pointer", "detail"),
    [
        ({"port": 0}, "port", "0 is not allowed: expected a whole number from 1 to 65535"),
        ({"port": "80"}, "port", '"80" is not allowed: expected a whole number from 1 to 65535'),
        ({"port": True}, "port", "true is not allowed: expected a whole number from 1 to 65535"),
        ({"ratio": 0}, "ratio", "0 is not allowed: expected a number greater than 0"),
        ({"ratio": float("nan")}, "ratio", "NaN is not allowed: expected a number greater than 0"),
        ({"ratio": float("inf")}, "ratio", "Infinity is not allowed: expected a number"),
        ({"count": 0}, "count", "0 is not allowed: expected a whole number of at least 1"),
        ({"mode": "fats"}, "mode", '"fats" is not allowed: expected "fast" or "slow"'),
        ({"colour": 1}, "colour", '1 is not allowed: expected "red" or "blue"'),
        ({"flag": 1}, "flag", "1 is not allowed: expected true or false"),
        ({"points": []}, "points", "[] is not allowed: expected a table"),
        ({"points": {"a": {}}}, "points.a.x", "is required: expected a whole number"),
        ({"points": {"a": {"x": 1, "y": 100}}}, "points.a", "y = 100 is out of sight"),
        ({"points": {"B c": {"x": 1}}}, 'points."B c"', "is no good name here: expected"),
        ({"command": ["a", ["b", 3]]}, "command[1][1]", "3 is not allowed: expected a string"),
        ({"command": "a b"}, "command", '"a b" is not allowed: expected a list, each item'),
        ({"pair": [1, 2]}, "pair[1]", "2 is not allowed: expected a string"),
        ({"at": datetime(2027, 1, 1)}, "at", "expected a date and time with offset"),
        ({"prot": 3}, "prot", "unknown key; did you mean 'port'?"),
        ({"zzz": 3}, "zzz", "unknown key; known: at, colour, command,"),
        ({"points": {"a": {"x": 1, "z": 1}}}, "points.a.z", "unknown key; known: x, y"),
    ],
)
def test_errors_name_key_value_and_remedy(
    changes: dict[str, Any], pointer: str, detail: str
) -> None:
    found = refused({"port": 80, **changes})
    assert list(found) == [pointer]
    assert detail in found[pointer]


def test_every_error_is_found_at_once() -> None:
    table = {
        "ratio": -1,
        "mode": "x",
        "oops": 1,
        "points": {"a": {"x": "1", "q": 1}, "b": {"x": 1, "y": 100}},
        "command": [1, [2]],
    }
    assert set(refused(table)) == {
        "oops", "port", "ratio", "mode", "points.a.q", "points.a.x", "points.b",
        "command[0]", "command[1][0]",
    }  # fmt: skip


def test_keys_are_below_where() -> None:
    assert set(refused({}, where="launchers.local")) == {"launchers.local.port"}


def test_what_is_no_table_is_refused() -> None:
    assert refused([]) == {"": "[] is not allowed: expected a table"}


def test_a_long_value_is_cut() -> None:
    assert len(refused({"port": "x" * 5000})["port"]) < 200


@pytest.mark.parametrize(
    "table",
    [
        {"port": 1, "secret": "hunter2"},
        {"port": 1, "secret": ["hunter2"]},
        {"port": "db://me:hunter2@host/x"},
        {"port": 1, "command": ["ok", {"url": "db://me:hunter2@host/x"}]},
    ],
)
def test_secrets_are_not_shown(table: dict[str, Any]) -> None:
    assert "hunter2" not in str(refused(table))


@pytest.mark.parametrize(
    ("key", "secret"),
    [
        *((key, True) for key in ("password", "db_password", "client_secret", "tokens", "API_KEY")),
        *((key, False) for key in ("password_file", "secret_env", "key", "tokenless", "keys")),
    ],
)
def test_keys_that_look_secret(key: str, secret: bool) -> None:
    assert settings.looks_secret(f"store.{key}") is secret


def test_inline_secrets_are_found_at_any_depth() -> None:
    table = {"url": "postgresql://me:pw@db/x", "deep": [{"token": "t"}], "token_file": "f"}
    found = {p.pointer: p.detail for p in settings.inline_secrets(table, "store")}
    assert set(found) == {"store.url", "store.deep[0].token"}
    assert "url_file" in found["store.url"]
    assert "token_env" in found["store.deep[0].token"]


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 99999) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)
_KEYS = st.sampled_from([field.name for field in msgspec.structs.fields(Sample)])


@hypothesis.settings(
    deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow], max_examples=200
)
@given(st.dictionaries(_KEYS, _VALUES), st.integers(1, 2))
def test_whatever_is_refused_is_explained(table: dict[str, Any], port: int) -> None:
    table.setdefault("port", port)
    try:
        plain = repr(msgspec.convert(table, Sample))
    except msgspec.ValidationError:
        assert refused(table)
        return
    stricter = re.compile(r"unknown key|NaN|Infinity")
    try:
        read = repr(settings.read(Sample, table, source="x.toml"))
    except ConfigError as error:
        read = plain if all(stricter.search(p.detail) for p in error.problems) else str(error)
    assert read == plain


@pytest.mark.parametrize(
    ("text", "pointer"),
    [
        ("a = 1\nb = \n", "line 2, column 5"),
        ("a", "end of document"),
        ("a = " + "[" * 5000, ""),
    ],
)
def test_bad_toml_has_its_place(text: str, pointer: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings.parse_toml(text, "x.toml")
    (problem,) = caught.value.problems
    assert problem.pointer == pointer
    assert problem.detail.startswith("is not TOML: ")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b"# fine\nname = 'caf\xe9'\n")
    for path, sentence in (
        (tmp_path / "missing.toml", f"{tmp_path}/missing.toml: cannot be read: no such file"),
        (tmp_path, f"{tmp_path}: cannot be read: is a directory"),
        (latin, f"{latin}: line 2: is not UTF-8 text"),
    ):
        with pytest.raises(ConfigError) as caught:
            settings.read_toml(path)
        assert str(caught.value).startswith(sentence)
