from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsmgate.errors import BadParameters
from vsmgate.model import Endpoint
from vsmgate.templates import (
    Command,
    check_command,
    check_environment,
    names_of,
    render_command,
    render_environment,
)

ENDPOINTS = {"renderer": Endpoint("10.0.0.1", 5000), "backend": Endpoint("10.0.0.2", 8000)}


def argv(command: Command, **parameters: Any) -> list[str]:
    names = names_of(
        "renderer",
        ENDPOINTS,
        parameters,
        job="job7",
        owner="ada",
        python="/usr/bin/python3",
        directory="/var/jobs/7",
    )
    return render_command(command, names)


def test_every_placeholder() -> None:
    template = "{host}:{port} {hosts.backend}:{ports.backend} {job} {owner} {python} {directory}"
    expected = "10.0.0.1:5000 10.0.0.2:8000 job7 ada /usr/bin/python3 /var/jobs/7"
    assert argv(("run", template)) == ["run", expected]


def test_braces() -> None:
    assert argv(("run", "{{port}}", "{{{port}}}")) == ["run", "{port}", "{5000}"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("", ""),
        ("a b", "a b"),
        ("{port}", "{port}"),
        (True, "true"),
        (False, "false"),
        (3, "3"),
        (0.5, "0.5"),
        (1e30, "1e+30"),
        ({"a": [1, "x\ny"]}, '{"a":[1,"x\\ny"]}'),
        (["a"], '["a"]'),
    ],
)
def test_values_outside_of_groups(value: Any, text: str) -> None:
    assert argv(("run", "--x={parameters.x}"), x=value) == ["run", f"--x={text}"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, []),
        (False, []),
        (True, ["--x", "true"]),
        (0, ["--x", "0"]),
        ("", ["--x", ""]),
        ([], []),
        (["a", "b c", ""], ["--x", "a", "--x", "b c", "--x", ""]),
        ([False, 1], ["--x", "false", "--x", "1"]),
    ],
)
def test_groups(value: Any, expected: list[str]) -> None:
    assert argv(("run", ("--x", "{parameters.x}"), "end"), x=value) == ["run", *expected, "end"]


def test_a_group_is_left_out_for_any_absent_parameter() -> None:
    command = ("run", ("--size", "{parameters.w}x{parameters.h}"), ("--always", "{port}"))
    assert argv(command, w=1) == ["run", "--always", "5000"]
    assert argv(command, w=1, h=2) == ["run", "--size", "1x2", "--always", "5000"]
    assert argv(command, w=[1, 3], h=2)[1:5] == ["--size", "1x2", "--size", "3x2"]


def test_a_value_that_must_be_there() -> None:
    with pytest.raises(BadParameters) as caught:
        argv(("run", "{parameters.a/b}"))
    assert [problem.pointer for problem in caught.value.problems] == ["/a~1b"]


@pytest.mark.parametrize("value", ["a\0", "a\nb", "\r", "\udcff"])
def test_values_that_are_no_argument(value: str) -> None:
    with pytest.raises(BadParameters) as caught:
        argv(("run", "{parameters.x}"), x=value)
    assert [problem.pointer for problem in caught.value.problems] == ["/x"]


def test_environment() -> None:
    names = {"parameters.a": "x y", "parameters.b": False, "parameters.c": None, "port": 1}
    environment = {"A": "{parameters.a}", "B": "{parameters.b}", "C": "{parameters.c}-{port}"}
    environment |= {"D": "{parameters.d}", "P": "{port}", "E": ""}
    assert render_environment(environment, names) == {
        "A": "x y",
        "B": "false",
        "P": "1",
        "E": "",
    }


# What a user sends must never change how many arguments there are, or any other one.
COMMAND: Command = (
    "run",
    "{parameters.a}",
    ("--b", "{parameters.b}"),
    "x{parameters.a}{{{parameters.b}",
    ("--c={parameters.c}",),
    "end",
)
TEXT = st.text(st.characters(exclude_characters="\0\n\r", exclude_categories=["Cs"]))
NASTY = st.sampled_from(["$(id)", "{port}", "{{", "}", "' \"", "--b", "; rm", "\\", " ", "\t"])


@pytest.mark.criterion("S-8")
@given(TEXT | NASTY, TEXT | NASTY, st.lists(TEXT | NASTY))
def test_text_never_changes_the_number_of_arguments(a: str, b: str, c: list[str]) -> None:
    assert argv(COMMAND, a=a, b=b, c=c) == [
        "run",
        a,
        "--b",
        b,
        f"x{a}{{{b}",
        *(f"--c={item}" for item in c),
        "end",
    ]


SCHEMA = {
    "properties": {
        "needed": {"type": "string"},
        "filled": {"type": "string", "default": "x"},
        "absent": {"type": "string"},
        "list": {"type": "array"},
        "other": {"type": "array"},
    },
    "required": ["needed"],
}


def check(*command: str | tuple[str, ...]) -> list[str]:
    return check_command(command, ENDPOINTS, SCHEMA)


def test_sound_commands() -> None:
    assert check("run") == []
    assert check("{python}", "{parameters.needed}", "{parameters.filled}", "{{}}") == []
    assert check("{directory}/run", ("--x", "{parameters.absent}"), "{ports.backend}") == []
    assert check("run", ("{parameters.list}", "{parameters.needed}")) == []


@pytest.mark.parametrize(
    ("command", "part"),
    [
        ((), "must start with a program"),
        ((("run",),), "must start with a program"),
        (("",), "must start with a program"),
        (("{parameters.needed}",), "must not choose the program"),
        (("/home/{owner}/run",), "must not choose the program"),
        (("run", "{prot}"), "names {prot}; known: {port}"),
        (("run", "{}"), "names {}"),
        (("run", "{parameters}"), "names {parameters}"),
        (("run", "{ports.none}"), "known ports: renderer, backend"),
        (("run", ("{parameters.none}",)), "known parameters: needed"),
        (("run", "{port"), "single {"),
        (("run", "port}"), "single }"),
        (("run", "a\nb"), "line break"),
        (("run", "{parameters.absent}"), "may have no value"),
        (("run", ("{parameters.list}", "{parameters.other}")), "not for several"),
    ],
)
def test_unsound_commands(command: Command, part: str) -> None:
    found = check(*command)
    assert any(part in sentence for sentence in found), found


def test_environments_are_checked() -> None:
    assert check_environment({"A": "{parameters.absent}", "_b1": "x"}, ENDPOINTS, SCHEMA) == []
    for variable, template in {
        "A=B": "x",
        "": "x",
        "1A": "x",
        "VSMGATE_TAG": "x",
        "A": "{prot}",
        "B": "a\0b",
    }.items():
        assert check_environment({variable: template}, ENDPOINTS, SCHEMA), variable
