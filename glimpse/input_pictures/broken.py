"""Why a picture cannot be read, in words that follow the name of its field."""

TAKEN = "JPEG, PNG, WebP, AVIF or HEIC"


class Unreadable(Exception):
    """`str` is what is wrong and what to do."""


class CutOff(Unreadable):
    def __init__(self) -> None:
        super().__init__("is cut off: the file ends before the picture does; send the whole file")


class Damaged(Unreadable):
    def __init__(self, what: str | None = None) -> None:
        super().__init__(what or f"is not a picture that can be read; send {TAKEN}")


class NotTaken(Unreadable):
    """A format that is recognised."""

    def __init__(self, name: str) -> None:
        super().__init__(f"is {name}, which is not taken; send {TAKEN}")


class TooCostly(Unreadable):
    pass
