"""`glimpse.protocols.session_warnings`: each warning is told with the result that it is about."""

from typing import Any

from PIL import Image

from glimpse.protocols.realtime import Wanted, kept, left_behind, merged, parse
from glimpse.protocols.session_warnings import SessionWarnings
from tests.fakes import OFFER, looked_at
from tests.strange_pictures import encoded
from tests.wire.sent import ORANGE

PICTURE = looked_at(ORANGE)

NEGATIVE = "negative_prompt has no effect: guidance is off, as guidance_scale is not above 1."
CHECKER = "enable_safety_checker has no effect: no picture is checked."


class Told:
    """A session's messages, and what is told with the result of each that has one."""

    def __init__(self) -> None:
        self._warnings = SessionWarnings()
        self._fields: dict[str, Any] = {"prompt": "p", "guidance_scale": 1}
        self._messages = 0

    def arrives(self, **message: Any) -> Wanted:
        self._messages += 1
        fields = merged(self._fields, message)
        wanted = parse(fields, OFFER)
        wanted = Wanted(wanted.request, wanted.data_uri, wanted.fields, self._messages)
        self._warnings.arrived(wanted, left_behind(self._fields, message))
        self._fields = kept(fields)
        return wanted

    def ends(self, wanted: Wanted) -> tuple[str, ...]:
        return self._warnings.due(wanted, wanted.request.warnings)

    def by(self, **message: Any) -> tuple[str, ...]:
        """A message that comes alone."""
        return self.ends(self.arrives(**message))


def test_a_warning_comes_with_the_message_that_brings_it_and_no_later() -> None:
    told = Told()
    assert told.by(negative_prompt="fog") == (NEGATIVE,)
    assert told.by(seed=1) == ()
    assert told.by(negative_prompt="fog") == ()  # many clients send all fields each time
    assert told.by(negative_prompt="rain") == (NEGATIVE,)
    assert told.by(guidance_scale=4) == ()
    assert told.by(guidance_scale=1) == (NEGATIVE,)


def test_a_field_that_is_not_kept_has_its_warning_with_its_message() -> None:
    told = Told()
    for _ in range(2):
        assert told.by(enable_safety_checker=True) == (CHECKER,)
        assert told.by(seed=1) == ()


def test_what_a_message_brings_that_is_dropped_is_told_with_the_next_result() -> None:
    told = Told()
    dropped = told.arrives(enable_safety_checker=True, negative_prompt="fog")
    assert dropped.request.warnings == (NEGATIVE, CHECKER)
    before, after = told.arrives(seed=1), told.arrives(sync_mode="?")
    assert told.ends(before) == (CHECKER, NEGATIVE)
    assert told.ends(after) == ("sync_mode has no effect: pictures are always in the answer.",)


def test_what_is_no_longer_so_is_not_told() -> None:
    told = Told()
    told.arrives(negative_prompt="fog")  # dropped
    assert told.by(guidance_scale=4) == ()


def test_what_another_field_takes_the_place_of_is_told() -> None:
    told = Told()
    assert told.by(image_size="square") == ()
    assert told.by(width=64) == (
        "image_size of an earlier message is left behind: this one gives the size otherwise.",
    )
    assert told.by(height=64) == ()
    assert [each.split()[0] for each in told.by(image_size="square")] == ["height", "width"]
    assert told.by(image=PICTURE, mask=PICTURE, strength=0.5) == ()
    assert told.by(image_url=PICTURE) == ()  # the same again
    assert told.by(mask_url=PICTURE) == told.by(mask=PICTURE) == ()
    assert [each.split()[0] for each in told.by(image_url=None)] == ["mask", "strength"]
    assert told.by(image_size=None) == ()


def test_a_picture_has_the_name_that_it_was_sent_by() -> None:
    told = Told()
    wanted = told.arrives(image=PICTURE, mask=PICTURE)
    warnings = ("mask_url: selects nothing", "image_url is odd.", "prompt is long.")
    assert told._warnings.due(wanted, warnings) == (
        "mask: selects nothing",
        "image is odd.",
        "prompt is long.",
    )


def test_pictures_of_a_camera_have_their_warning_once() -> None:
    told = Told()
    first, second = (
        looked_at(encoded(Image.new("RGB", (64, 48), colour), "PNG"), "image") for colour in (0, 1)
    )
    (warning,) = told.by(image=first, width=64, height=64)
    assert warning.startswith("image is cut at the left and right")
    assert told.by(image=second) == ()
    assert told.by(width=None, height=None) == ()
    assert told.by(width=64, height=64) == (warning,)
