"""Everything that can go wrong, each with a code, an HTTP status and whose fault it was."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal


class GlimpseError(Exception):
    """A failure with a message that may be shown to the client.

    The message says what to do and never holds internals or the client's own input. Subclasses take
    the same arguments as their `args`, so that they survive pickling between processes.
    """

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    fault: ClassVar[Literal["client", "server"]] = "server"
    retry_after_s: int | None = None

    @property
    def message(self) -> str:
        return str(self.args[0]) if self.args else "The server failed to make this picture."

    @property
    def detail(self) -> Any:
        """What goes into the `detail` key of an error answer: text, or pydantic's list."""
        return self.message


class InvalidRequest(GlimpseError):
    """The input breaks a rule of the API; `problems` has pydantic's form (loc, msg, type)."""

    code = "invalid_request"
    status = 422
    fault = "client"

    def __init__(self, problems: Sequence[dict[str, Any]]) -> None:
        super().__init__(list(problems))

    @property
    def problems(self) -> list[dict[str, Any]]:
        return list(self.args[0])

    @property
    def message(self) -> str:
        return "; ".join(
            f"{'.'.join(str(part) for part in p['loc'] if part != 'body') or 'body'}: {p['msg']}"
            for p in self.problems
        )

    @property
    def detail(self) -> list[dict[str, Any]]:
        return self.problems


def invalid(field: str, message: str, kind: str = "value_error") -> InvalidRequest:
    """An `InvalidRequest` about one field."""
    return InvalidRequest([{"loc": ["body", field], "msg": message, "type": kind}])


class BadRequest(GlimpseError):
    """A request that HTTP itself does not allow."""

    code = "bad_request"
    status = 400
    fault = "client"


class InvalidMessage(GlimpseError):
    """What came over a WebSocket is no message at all."""

    code = "invalid_message"
    status = 422
    fault = "client"


class Unauthorized(GlimpseError):
    """A key is due, and none that counts has come."""

    code = "unauthorized"
    status = 401
    fault = "client"


class Forbidden(GlimpseError):
    """It is known who asks, or from which page, and this is not for them."""

    code = "forbidden"
    status = 403
    fault = "client"


class NotFound(GlimpseError):
    code = "not_found"
    status = 404
    fault = "client"


class ModelNotFound(NotFound):
    """A name that no model here goes by."""

    code = "model_not_found"


class MethodNotAllowed(GlimpseError):
    code = "method_not_allowed"
    status = 405
    fault = "client"


class BodyTooLarge(GlimpseError):
    code = "body_too_large"
    status = 413
    fault = "client"


class UnsupportedMediaType(GlimpseError):
    code = "unsupported_media_type"
    status = 415
    fault = "client"


class UnsupportedEncoding(UnsupportedMediaType):
    """The body is compressed, or encoded otherwise."""

    code = "unsupported_encoding"


class UnsupportedTransfer(GlimpseError):
    """The body is sent in another way than whole or in chunks."""

    code = "unsupported_transfer"
    status = 501


class WrongHost(GlimpseError):
    """The request is meant for another server than this one, by its `Host`."""

    code = "wrong_host"
    status = 421
    fault = "client"


class RateLimited(GlimpseError):
    """A key has used up what it may; the client may come back, and when."""

    code = "rate_limited"
    status = 429
    fault = "client"

    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        super().__init__(message, retry_after_s)
        self.retry_after_s = retry_after_s


class Overloaded(GlimpseError):
    """Every place is taken; the client may come back."""

    code = "overloaded"
    status = 429
    retry_after_s = 1


class NotReady(GlimpseError):
    """Starting up: not every stage has answered yet."""

    code = "not_ready"
    status = 503
    retry_after_s = 2


class AccessUnavailable(GlimpseError):
    """Whether the client may come in cannot be told just now, so it may not."""

    code = "access_unavailable"
    status = 503
    retry_after_s = 2


class DeadlineExceeded(GlimpseError):
    code = "deadline_exceeded"
    status = 504


class StageFailed(GlimpseError):
    """A stage raised: the picture is lost, the service goes on."""

    code = "stage_failed"

    def __init__(self, stage: str, message: str | None = None) -> None:
        super().__init__(stage, message)

    @property
    def stage(self) -> str:
        return str(self.args[0])

    @property
    def message(self) -> str:
        return self.args[1] or f"The {self.stage} stage failed; please try again."


class StageLost(StageFailed):
    """The process of a stage died or cannot be reached while it worked for this generation."""

    code = "stage_lost"
    status = 503
    retry_after_s = 2

    @property
    def message(self) -> str:
        return self.args[1] or f"The {self.stage} stage was lost in mid-picture; please try again."


class StageStalled(StageLost):
    """The replica is there, but stands still: its engine makes no step, or it does not answer."""

    code = "stage_stalled"

    @property
    def message(self) -> str:
        return self.args[1] or f"The {self.stage} stage hung in mid-picture; please try again."
