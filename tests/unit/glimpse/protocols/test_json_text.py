"""`glimpse.protocols.json_text`: JSON of clients, and a sentence for each way to get it wrong."""

import json

import pytest

from glimpse.errors import InvalidRequest
from glimpse.protocols import json_text


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('{"seed": 1, "seed": 2}', "seed"),
        ('{"seed": 1, "seed": 1}', "seed"),
        ('{"seed": null, "seed": 1}', "seed"),
        ('{"seed": 1, "se\\u0065d": 2}', "seed"),
        ('{"image_size": {"width": 64, "width": 128}}', "width"),
        ('{"x": [[{"": 1, "": 2}]]}', ""),
        ('{"\\ud800": 1, "\\ud800": 2}', "\\ud800"),
    ],
)
def test_a_field_that_is_given_twice_is_refused_by_its_name(text: str, name: str) -> None:
    for sent in (text, text.encode()):
        with pytest.raises(InvalidRequest) as refused:
            json_text.loads(sent)
        assert refused.value.problems[0]["loc"] == ["body", name]
        assert "is given more than once" in refused.value.message


def test_the_same_name_in_two_objects_is_no_repetition() -> None:
    fields = {"width": 1, "image_size": {"width": 1}, "x": [{"a": 1}, {"a": 1}]}
    assert json_text.loads(json.dumps(fields)) == fields


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "is empty"),
        (b" \r\n", "is empty"),
        (b'{"a": 1,}', "line 1, column"),
        (b'{"a": "\xff"}', "not UTF-8"),
        (b'{"a": ' + b"9" * 5_000 + b"}", "thousands of digits"),
        (b'{"a": NaN}', "NaN and Infinity"),
    ],
)
def test_each_mistake_has_its_own_words(text: bytes, words: str) -> None:
    with pytest.raises(json_text.NotRead, match=words):
        json_text.loads(text)
