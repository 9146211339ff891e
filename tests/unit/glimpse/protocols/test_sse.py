"""`glimpse.protocols.sse`: the exact bytes, because fal's clients break on little."""

import json

from glimpse.errors import InvalidRequest, StageFailed
from glimpse.event_log import Accepted, Cancelled, Failed, Final, Preview, Step, Timings
from glimpse.ports import Picture
from glimpse.protocols import sse
from tests.fakes import make_request

REQUEST = make_request()
TIMINGS = Timings(queue=0.1, text_encode=0.25, denoise=1.23456, decode=0.5, total=2)


def test_a_preview() -> None:
    event = Preview(1, 4, Picture(b"\xff\xd8", "image/jpeg", 16, 8))
    assert sse.encode(event, REQUEST) == (
        b'data: {"image":{"url":"data:image/jpeg;base64,/9g=","content_type":"image/jpeg",'
        b'"width":16,"height":8},"type":"preview","step":1,"steps":4,"seed":7,'
        b'"request_id":"r1"}\n\n'
    )


def test_a_rough_preview_is_marked_and_else_the_same() -> None:
    picture = Picture(b"\xff\xd8", "image/jpeg", 16, 8)
    fine, rough = (sse.encode(Preview(1, 4, picture, r), REQUEST) for r in (False, True))
    assert fine is not None
    assert rough == fine.replace(b'"r1"}', b'"r1","quality":"rough"}')


def test_the_final_event_has_the_shape_of_a_preview_and_all_pictures_and_timings() -> None:
    pictures = tuple(Picture(data, "image/png", 8, 8) for data in (b"a", b"b"))
    assert sse.encode(Final(4, pictures, TIMINGS, 0), REQUEST) == (
        b'data: {"image":{"url":"data:image/png;base64,YQ==","content_type":"image/png",'
        b'"width":8,"height":8},"images":[{"url":"data:image/png;base64,YQ==",'
        b'"content_type":"image/png","width":8,"height":8},{"url":"data:image/png;base64,Yg==",'
        b'"content_type":"image/png","width":8,"height":8}],"type":"final","step":4,"steps":4,'
        b'"seed":7,"request_id":"r1","timings":{"queue":0.1,"text_encode":0.25,"denoise":1.2346,'
        b'"decode":0.5,"total":2}}\n\n'
    )


def test_a_step_is_progress() -> None:
    assert sse.encode(Step(2, 4), REQUEST) == b'data: {"type":"progress","step":2,"steps":4}\n\n'


def test_a_failure() -> None:
    assert sse.encode(Failed(StageFailed("denoise")), REQUEST) == (
        b'data: {"error":{"code":"stage_failed","message":"The denoise stage failed; please try '
        b'again.","request_id":"r1"}}\n\n'
    )


def test_acceptance_and_cancellation_are_not_told() -> None:
    assert sse.encode(Accepted(), REQUEST) is None
    assert sse.encode(Cancelled(), REQUEST) is None


def test_events_are_one_line_of_ascii_whatever_is_in_them() -> None:
    problem = {"loc": ["body"], "msg": "é \ud83c\udf0a \ud800 \n\r\u2028", "type": "x"}
    data = sse.encode(Failed(InvalidRequest([problem])), REQUEST)
    assert data is not None and data.isascii()
    line, *ends = data.split(b"\n")
    assert ends == [b"", b""]
    assert json.loads(line.removeprefix(b"data: "))["error"]["message"].endswith("\n\r\u2028")


def test_a_ping_is_a_comment() -> None:
    assert sse.PING == b": ping\n\n"
    assert sse.CONTENT_TYPE == "text/event-stream"
