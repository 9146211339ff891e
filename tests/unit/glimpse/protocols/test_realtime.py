"""`glimpse.protocols.realtime`: what a message means, and what answers look like on the wire."""

import json
from collections.abc import Callable
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glimpse.errors import InvalidMessage, InvalidRequest, StageLost
from glimpse.event_log import Final, Preview, Timings
from glimpse.ports import Picture
from glimpse.protocols.realtime import (
    Json,
    Msgpack,
    Result,
    Wanted,
    error_code,
    error_text,
    kept,
    merged,
    parse,
    with_pictures_looked_at,
)
from tests.fakes import OFFER, looked_at, make_request
from tests.wire.sent import ORANGE, ORANGE_URL

JPEG = Picture(b"\xff\xd8 jpeg", "image/jpeg", 64, 32)
TIMINGS = Timings(0.1, 0.2, 0.3, 0.4, 1.0)
FINAL = Final(4, (JPEG, JPEG), TIMINGS, 0)
# Sent by fal_client 1.0.3 for {"prompt": "p", "request_id": "r1"}.
FROM_FAL_CLIENT = bytes.fromhex("82a670726f6d7074a170aa726571756573745f6964a27231")


def result(event: Preview | Final = FINAL, data_uri: bool = False) -> Result:
    return Result(Wanted(make_request(), data_uri), event)


def wanted(**fields: Any) -> Wanted:
    return parse(with_pictures_looked_at({"prompt": "p", **fields}, OFFER), OFFER)


class TestMerging:
    def test_a_field_left_out_keeps_its_last_value(self) -> None:
        assert merged({"prompt": "p", "seed": 1}, {"seed": 2}) == {"prompt": "p", "seed": 2}

    def test_null_clears(self) -> None:
        assert merged({"prompt": "p", "seed": 1}, {"seed": None}) == {"prompt": "p"}

    @pytest.mark.parametrize(
        ("kept", "message"),
        [
            ({"image": b"1"}, {"image_url": "data:2"}),
            ({"image_url": "data:1"}, {"image": b"2"}),
            ({"width": 64, "height": 64}, {"image_size": "square"}),
            ({"image_size": "square"}, {"width": 64}),
        ],
    )
    def test_what_means_the_same_takes_its_place(
        self, kept: dict[str, Any], message: dict[str, Any]
    ) -> None:
        assert merged(kept, message) == message

    def test_what_is_cleared_takes_no_ones_place(self) -> None:
        assert merged({"image": b"1"}, {"image_url": None}) == {"image": b"1"}

    def test_what_means_nothing_is_not_held_in_memory(self) -> None:
        fields = {"prompt": "p", "request_id": "r1", "sync_mode": b"megabytes"}
        assert kept(fields) == {"prompt": "p"}

    def test_what_is_about_a_picture_goes_with_it(self) -> None:
        kept = {"image": b"1", "mask": b"2", "strength": 0.5, "prompt": "p"}
        assert merged(kept, {"image": None}) == {"prompt": "p"}

    def test_what_the_message_itself_says_of_no_picture_stays_to_be_refused(self) -> None:
        fields = merged({"prompt": "p"}, {"strength": 0.5})
        with pytest.raises(InvalidRequest, match="strength"):
            parse(fields, OFFER)


class TestParsing:
    def test_speed_is_the_default(self) -> None:
        found = wanted()
        assert not found.request.full_quality
        assert not found.request.preview_steps
        assert not found.data_uri

    def test_previews_and_quality_on_wish(self) -> None:
        found = wanted(stream_previews=True, preview_every=1, full_quality=True)
        assert found.request.full_quality
        assert found.request.preview_steps == {1, 2, 3}

    def test_pictures_as_bytes(self) -> None:
        found = wanted(image=ORANGE, mask=ORANGE, strength=0.5).request
        pictures = looked_at(ORANGE, "image"), looked_at(ORANGE, "mask")
        assert (found.image, found.mask, found.strength) == (*pictures, 0.5)

    @pytest.mark.parametrize(
        ("fields", "about"),
        [
            ({"image": "text"}, "image"),
            ({"image": 7}, "image"),
            ({"image": b"1" * 1001}, "image"),
            ({"image": b"1"}, "image"),
            ({"image": ORANGE, "image_url": ORANGE_URL}, "image"),
            ({"image_url": "http://localhost/x.png"}, "image_url"),
            ({"image_url": b"1"}, "image_url"),
            ({"image_url": 7}, "image_url"),
            ({"image": ORANGE, "mask_url": "data:image/png;base64,A"}, "mask_url"),
            ({"mask": b"1"}, "mask"),
            ({"mask": ORANGE}, "mask"),
            ({"mask_url": ORANGE_URL}, "mask_url"),
            ({"image": ORANGE, "mask": b"1" * 1001}, "mask"),
            ({"seed": 7.5}, "seed"),
            ({"num_images": True}, "num_images"),
            ({"stream_previews": 1}, "stream_previews"),
            ({"full_quality": "yes"}, "full_quality"),
            ({"image_encoding": "base32"}, "image_encoding"),
            ({"seed": 2**63}, "seed"),
            ({"seed": True}, "seed"),
            ({"guidance_scale": float("nan")}, "guidance_scale"),
            ({"guidance_scale": float("inf")}, "guidance_scale"),
            ({"prompt": b"bytes"}, "prompt"),
            ({"promt": "p"}, "promt"),
        ],
    )
    def test_what_is_wrong_is_named(self, fields: dict[str, Any], about: str) -> None:
        with pytest.raises(InvalidRequest) as refused:
            wanted(**fields)
        assert refused.value.problems[0]["loc"] == ["body", about]


class TestMsgpack:
    def test_a_message_of_fals_client(self) -> None:
        assert Msgpack().decode(FROM_FAL_CLIENT) == {"prompt": "p", "request_id": "r1"}

    def test_a_result_has_its_pictures_as_bytes(self) -> None:
        (frame,) = Msgpack().encode(result(), dropped=2)
        assert isinstance(frame, bytes)
        image = {"content": JPEG.data, "content_type": "image/jpeg", "width": 64, "height": 32}
        assert msgpack.unpackb(frame) == {
            "image": image,
            "images": [image, image],
            "type": "final",
            "step": 4,
            "steps": 4,
            "seed": 7,
            "request_id": "r1",
            "dropped": 2,
            "timings": {
                "queue": 0.1,
                "text_encode": 0.2,
                "denoise": 0.3,
                "decode": 0.4,
                "total": 1.0,
            },
        }

    def test_or_as_text(self) -> None:
        (frame,) = Msgpack().encode(result(data_uri=True), dropped=0)
        image = msgpack.unpackb(frame)["image"]
        assert image["url"].startswith("data:image/jpeg;base64,")
        assert "content" not in image

    def test_a_preview_says_so_and_has_no_timings(self) -> None:
        (frame,) = Msgpack().encode(result(Preview(1, 4, JPEG, rough=True)), dropped=0)
        fields = msgpack.unpackb(frame)
        assert (fields["type"], fields["step"], fields["steps"]) == ("preview", 1, 4)
        assert fields["quality"] == "rough"
        assert "timings" not in fields

    @pytest.mark.parametrize(
        "frame",
        [
            "text",
            b"",
            b"\xc1",  # never used
            b"\x81",  # a map of one, that ends
            b"\x91\x01",  # an array
            b"\x81\x01\x02",  # a number for a name
            b"\x81\xc4\x01a\x01",  # bytes for a name
            b"\x81\xa1\xff\x01",  # a name that is no UTF-8
            b"\x81\xa6prompt\xd4\x01\x00",  # an extension
            b"\x81\xa1p\xdd\xff\xff\xff\xff",  # an array of four thousand million
            b"\xdf\xff\xff\xff\xff",  # a map as large
            b"\x81\xa1p" + b"\x91" * 100_000,  # a nesting bomb
            b"\x81\xa1p\x9f" + (b"\x9f" + b"\x90" * 15) * 15,  # more arrays than there may be
            FROM_FAL_CLIENT + b"\x00",  # something behind
        ],
    )
    def test_what_is_no_message_is_refused(self, frame: bytes | str) -> None:
        with pytest.raises(InvalidMessage):
            Msgpack().decode(frame)

    @pytest.mark.parametrize(
        ("frame", "words"),
        [
            ("text", "text frame"),
            (b"", "is empty"),
            (FROM_FAL_CLIENT[:-1], "ends too early"),
            (b"\xc1", "damaged"),
            (b"\x91\x01", "is a map of fields"),
            (b"\x81\xa1p\xd4\x01\x00", "extension type 1;"),
            (b"\x81\xa1p\xc7\x05\x2a12345", "extension type 42;"),
            (b"\xd4\x01\x00", "extension type 1;"),
            (b"\x81\xa1p\x91\xd8\x80" + bytes(16), "extension type -128;"),
            (b"\x81\xa1p\xd6\xff" + bytes(4), "extension type -1, a timestamp;"),
            (b"\x81\xa1p\x91\xd7\xff" + bytes(8), "extension type -1, a timestamp;"),
            (b"\x81\x01\x02", "key of a map"),
            (b"\x81\xc0\x02", "key of a map"),
            (b"\x81\xc4\x01a\x01", "key of a map"),
            (b"\x81\x90\x01", "key of a map"),
            (b"\x81\x80\x01", "key of a map"),
            (b"\x81\xaaimage_size\x81\x01\x02", "key of a map"),
            (FROM_FAL_CLIENT + b"\x00", "bytes behind the message"),
            (FROM_FAL_CLIENT * 2, "bytes behind the message"),
            (b"\x81\xa5image\xda\x00\x04\xff\xd8\xff\xe0", "use_bin_type=True"),
            (b"\x81\xa5image\xa4\x89PNG", "use_bin_type=True"),
            (b"\x81\xa1p" + b"\x91" * 100_000, "nested"),
            (b"\x81\xa1p\x9f" + (b"\x9f" + b"\x90" * 15) * 15, "more than 64 maps and arrays"),
            (b"\x81\xa1p\xdd\xff\xff\xff\xff", "more than 64 entries"),
        ],
    )
    def test_each_cause_has_its_own_words(self, frame: bytes | str, words: str) -> None:
        with pytest.raises(InvalidMessage) as refused:
            Msgpack().decode(frame)
        assert words in refused.value.message

    def test_a_float_without_a_fraction_is_the_integer(self) -> None:
        for packed in (
            msgpack.packb({"prompt": "p", "seed": 7.0, "width": 64.0}),
            msgpack.packb({"prompt": "p", "seed": 7.0, "width": 64.0}, use_single_float=True),
        ):
            request = parse(Msgpack().decode(packed), OFFER).request
            assert (request.seed, request.width) == (7, 64)


class TestJson:
    def test_a_result_is_one_text_frame(self) -> None:
        (frame,) = Json(binary=False).encode(result(), dropped=0)
        assert isinstance(frame, str) and frame.isascii()
        fields = json.loads(frame)
        assert fields["image"] == fields["images"][0]
        assert fields["image"]["url"].startswith("data:image/jpeg;base64,")

    def test_or_a_text_frame_and_one_for_each_picture(self) -> None:
        text, *pictures = Json(binary=True).encode(result(), dropped=0)
        described = {"content_type": "image/jpeg", "width": 64, "height": 32}
        assert json.loads(text)["images"] == [described, described]
        assert pictures == [JPEG.data, JPEG.data]

    @pytest.mark.parametrize(
        "frame",
        [
            *(b"{}", "", "[]", "7", "null", '{"a": NaN}', '{"a": Infinity}', "[" * 9_000),
            *('{"a": [' + ",".join([value] * 10_000) + "]}" for value in ("{}", "1")),
        ],
    )
    def test_what_is_no_message_is_refused(self, frame: bytes | str) -> None:
        with pytest.raises(InvalidMessage):
            Json(binary=False).decode(frame)

    @pytest.mark.parametrize(
        ("frame", "words"),
        [
            (b"{}", "binary frame"),
            ("", "is empty"),
            (" \n", "is empty"),
            ("[]", "is a map of fields"),
            ('{"a": NaN}', "NaN and Infinity are not"),
            ('{"a": -Infinity}', "NaN and Infinity are not"),
            ("[" * 9_000, "nested too deeply"),
            ('{"a": [' + ",".join(["1"] * 10_000) + "]}", "too many values"),
            ('{"prompt": "p",}', "line 1, column"),
            ("{'prompt': 'p'}", "line 1, column 2"),
            ('{"seed": ' + "9" * 5_000 + "}", "thousands of digits"),
        ],
    )
    def test_each_cause_has_its_own_words(self, frame: bytes | str, words: str) -> None:
        with pytest.raises(InvalidMessage) as refused:
            Json(binary=False).decode(frame)
        assert words in refused.value.message

    def test_how_pictures_come_is_said_in_the_address(self) -> None:
        for binary, encoding in ((False, "bytes"), (True, "data_uri")):
            codec = Json(binary)
            (warning,) = codec.without_effect(wanted(image_encoding=encoding))
            assert warning.startswith("image_encoding has no effect on /ws")
            assert codec.without_effect(wanted()) == ()
        assert Json(binary=True).without_effect(wanted(image_encoding="bytes")) == ()
        assert Json(binary=False).without_effect(wanted(image_encoding="data_uri")) == ()

    def test_warnings_go_with_the_pictures_and_are_left_out_where_there_are_none(self) -> None:
        told = Result(Wanted(make_request(), False), FINAL, ("seed is odd.",))
        for codec in (Json(binary=False), Json(binary=True)):
            text, *_ = codec.encode(told, dropped=0)
            assert json.loads(text)["warnings"] == ["seed is odd."]
            text, *_ = codec.encode(result(), dropped=0)
            assert "warnings" not in json.loads(text)
        (packed,) = Msgpack().encode(told, dropped=0)
        assert msgpack.unpackb(packed)["warnings"] == ["seed is odd."]


def test_an_error_is_what_fals_clients_read() -> None:
    lost = StageLost("denoise")
    assert json.loads(error_text(error_code(lost), lost.message, "r1")) == {
        "type": "x-fal-error",
        "error": "STAGE_LOST",
        "reason": "The denoise stage was lost in mid-picture; please try again.",
        "request_id": "r1",
    }
    assert "request_id" not in json.loads(error_text("TIMEOUT", "idle", None))


VALID: list[dict[str, Any]] = [
    {"prompt": "p", "seed": 1, "width": 64, "height": 64, "stream_previews": True},
    {"prompt": "p", "image": b"picture", "mask": b"mask", "strength": 0.5},
    {"prompt": "p", "image_size": {"width": 64, "height": 64}, "guidance_scale": 2.5},
    {"prompt": "p", "image_url": ORANGE_URL, "request_id": "r1"},
]


def damaged(packed: bytes, where: int, byte: int, how: int) -> bytes:
    where %= len(packed)
    return {
        0: packed[:where] + bytes([byte]) + packed[where + 1 :],
        1: packed[:where],
        2: packed[:where] + bytes([byte]) + packed[where:],
        3: packed[:where] + packed[where + 1 :],
    }[how]


def survives(decode: Callable[[], dict[str, Any]]) -> None:
    """Nothing is raised but what the door tells the client."""
    try:
        read = with_pictures_looked_at(decode(), OFFER)
        parse(merged({"prompt": "p"}, read), OFFER)
    except (InvalidMessage, InvalidRequest) as refused:
        json.loads(error_text(error_code(refused), refused.message, None))


@given(
    message=st.sampled_from(VALID),
    damage=st.lists(
        st.tuples(st.integers(0, 1000), st.integers(0, 255), st.integers(0, 3)), max_size=4
    ),
)
def test_damaged_msgpack_is_a_message_or_a_named_error(
    message: dict[str, Any], damage: list[tuple[int, int, int]]
) -> None:
    frame: bytes = msgpack.packb(message)
    for where, byte, how in damage:
        frame = damaged(frame or b"\x80", where, byte, how)
    survives(lambda: Msgpack().decode(frame))


@given(
    st.dictionaries(
        st.one_of(st.sampled_from(sorted({name for each in VALID for name in each})), st.text()),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=8,
        ),
    )
)
def test_values_of_any_type_are_a_message_or_a_named_error(fields: dict[str, Any]) -> None:
    survives(lambda: fields)
