from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsmgate.errors import BadParameters
from vsmgate.parameters import LARGEST, check_schema, complete

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "samples": {"type": "integer", "minimum": 1, "maximum": 64, "default": 4},
        "scene": {"type": "string", "pattern": "^[a-z]+$"},
        "plugins": {"type": "array", "items": {"type": "string"}, "default": ["explorer"]},
        "light": {
            "type": "object",
            "properties": {"power": {"type": "number", "default": 1.5}},
        },
        "odd/~name": {"type": "boolean"},
    },
    "required": ["scene"],
}


def problems(schema: dict[str, Any], parameters: object) -> dict[str, str]:
    """Return pointer -> detail of all problems."""
    with pytest.raises(BadParameters) as caught:
        complete(schema, parameters)
    assert caught.value.status == 400
    return {problem.pointer: problem.detail for problem in caught.value.problems}


def test_defaults_are_filled_in_at_every_depth() -> None:
    given = {"scene": "cortex", "light": {}}
    assert complete(SCHEMA, given) == {
        "scene": "cortex",
        "samples": 4,
        "plugins": ["explorer"],
        "light": {"power": 1.5},
    }
    assert given == {"scene": "cortex", "light": {}}


def test_a_default_is_not_shared() -> None:
    complete(SCHEMA, {"scene": "a"})["plugins"].append("more")
    assert complete(SCHEMA, {"scene": "a"})["plugins"] == ["explorer"]


def test_all_errors_come_at_once_with_pointers() -> None:
    wrong = {
        "samples": 0,
        "plugins": ["fine", 3],
        "light": {"power": "much", "colour": "red"},
        "odd/~name": 1,
        "sample": 5,
        "": 1,
    }
    found = problems(SCHEMA, wrong)
    assert found.keys() == {
        "/samples",
        "/scene",
        "/plugins/1",
        "/light/power",
        "/light/colour",
        "/odd~1~0name",
        "/sample",
        "/",
    }
    assert found["/scene"] == "is required"
    assert "minimum of 1" in found["/samples"]
    assert "did you mean samples?" in found["/sample"]
    assert "known: power" in found["/light/colour"]


def test_two_missing_ones_are_two_problems() -> None:
    schema = {"properties": {"a": {}, "b": {}}, "required": ["a", "b"]}
    assert problems(schema, {}) == {"/a": "is required", "/b": "is required"}


def test_a_schema_without_properties_takes_nothing() -> None:
    assert complete({}, {}) == {}
    assert problems({}, {"a": 1}).keys() == {"/a"}


def test_unknown_keys_are_taken_where_the_schema_says_so() -> None:
    for allowing in ({"additionalProperties": True}, {"unevaluatedProperties": {}}):
        assert complete({"properties": {}, **allowing}, {"a": 1}) == {"a": 1}
    typed = {"additionalProperties": {"type": "integer"}}
    assert complete(typed, {"a": 1}) == {"a": 1}
    assert problems(typed, {"a": "1"}).keys() == {"/a"}
    assert complete({"patternProperties": {"^x-": {}}}, {"x-a": 1}) == {"x-a": 1}


def test_composed_schemas_name_keys_too() -> None:
    schema = {
        "properties": {"a": {"$ref": "#/$defs/count"}},
        "allOf": [{"properties": {"b": {"type": "integer"}}}],
        "$defs": {"count": {"type": "integer"}},
    }
    assert complete(schema, {"a": 1, "b": 2}) == {"a": 1, "b": 2}
    assert problems(schema, {"a": "1", "c": 2}).keys() == {"/a", "/c"}


def test_a_whole_number_becomes_an_integer() -> None:
    filled = complete(SCHEMA, {"scene": "a", "samples": 5.0})
    assert json.dumps(filled["samples"]) == "5"


@pytest.mark.parametrize("parameters", [None, [], "a", 1])
def test_parameters_are_an_object(parameters: object) -> None:
    assert problems({}, parameters).keys() == {""}


@pytest.mark.parametrize("text", ["a\0b", "a\nb", "a\rb", "\n", "half \ud800 pair"])
def test_text_that_cannot_be_an_argument(text: str) -> None:
    free = {"additionalProperties": True}
    assert problems(free, {"a": text}).keys() == {"/a"}
    assert problems(free, {"a": [{"b": text}]}).keys() == {"/a/0/b"}
    assert problems(free, {"a": {text: 1}}).keys() == {"/a"}


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_numbers_are_finite(number: float) -> None:
    assert problems({"additionalProperties": True}, {"a": number}).keys() == {"/a"}


def test_size_and_depth_are_capped() -> None:
    free = {"additionalProperties": True}
    assert "octets" in problems(free, {"a": "x" * LARGEST})[""]
    deep: Any = 1
    for _ in range(20_000):
        deep = [deep]
    assert problems(free, {"a": deep}).keys() == {""}


def test_many_problems_are_cut_short() -> None:
    with pytest.raises(BadParameters) as caught:
        complete({}, {f"p{n}": n for n in range(500)})
    assert len(caught.value.problems) == 20
    # No more are looked for: thousands take half a second, in which the gateway does nothing else.
    assert "19 more" in caught.value.detail


def test_messages_stay_short() -> None:
    found = problems({"properties": {"a": {"type": "integer"}}}, {"a": "x" * 10_000})
    assert len(found["/a"]) <= 200


@pytest.mark.parametrize(
    "schema", [SCHEMA, {}, {"$schema": "https://json-schema.org/draft/2020-12/schema"}]
)
def test_good_schemas(schema: dict[str, Any]) -> None:
    assert check_schema(schema) == []


@pytest.mark.parametrize(
    ("schema", "part"),
    [
        ([], "must be a table"),
        ({"type": "array"}, "$.type"),
        ({"type": "objekt"}, "$.type"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "$.$schema"),
        ({"properties": {"a": {"minimum": "1"}}}, "$.properties.a.minimum"),
        ({"required": "a"}, "$.required"),
        ({"properties": {"a": {"pattern": "("}}}, "pattern"),
        ({"patternProperties": {"(": {}}}, "patternProperties"),
        ({"properties": {"a": {"$ref": "#/$defs/none"}}}, "$ref"),
        ({"properties": {"a": {"$ref": "http://127.0.0.1:9/schema"}}}, "only refer to itself"),
        ({"properties": {"a": {"type": "integer", "default": "x"}}}, "the default of a"),
        ({"properties": {"a": {"default": "x\ny"}}}, "the default of a"),
        ({"allOf": [{"properties": {"a": {"pattern": "["}}}]}, "pattern"),
    ],
)
def test_bad_schemas(schema: object, part: str) -> None:
    found = check_schema(schema)
    assert any(part in sentence for sentence in found), found


def test_a_property_may_be_called_like_a_keyword() -> None:
    names = ["pattern", "$ref", "default", "required", "properties", "enum"]
    schema = {"properties": {name: {"type": "string", "default": "("} for name in names}}
    assert check_schema(schema) == []
    assert complete(schema, {}) == dict.fromkeys(names, "(")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*SCHEMA["properties"], "other"]) | st.text(), VALUES))
def test_anything_is_completed_or_refused(parameters: dict[str, Any]) -> None:
    try:
        filled = complete(SCHEMA, parameters)
    except BadParameters as error:
        refusal = error
    else:
        assert complete(SCHEMA, filled) == filled
        assert filled.keys() <= SCHEMA["properties"].keys()
        return
    assert refusal.problems
    assert refusal.detail
