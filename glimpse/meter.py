"""Counts and times for the operator, as a port. Bound to Serve's metrics in `deployments/`."""

from typing import Literal, Protocol, TypeAlias

Outcome: TypeAlias = Literal["done", "failed", "cancelled"]
PreviewKind: TypeAlias = Literal["decoded", "rough", "dropped"]


class Meter(Protocol):
    """Each call counts one occurrence. All may be called from any thread, cost a microsecond and
    never raise. Times in seconds."""

    def ended(self, outcome: Outcome, seconds: float) -> None:
        """A generation has ended, so long after it was accepted."""

    def refused(self, reason: str) -> None:
        """A request or session was refused; `reason` is the code of its error."""

    def placed(self, seconds: float) -> None:
        """A request or a session has got its place after so long. One that waits in vain counts as
        refused."""

    def moved(self, stage: str, reason: Literal["lost", "stalled"]) -> None:
        """Work for a generation goes to another replica of a stage."""

    def resumed(self, steps: int) -> None:
        """A job goes on from a checkpoint that has so many steps, which are not made again."""

    def stalled(self, stage: str) -> None:
        """A replica of a stage is found to stand still."""

    def preview(self, kind: PreviewKind) -> None:
        """A preview was told to the client, in one quality or the other, or was dropped."""

    def first_preview(self, seconds: float) -> None:
        """From the acceptance of a generation to its first preview."""

    def queued(self, seconds: float) -> None:
        """A picture waited so long for a denoiser to begin it."""

    def tick(self, seconds: float, rows: int) -> None:
        """An engine has made one tick, with so many rows in the call of the network."""

    def step(self, seconds: float) -> None:
        """A job has ended; its steps took so long each, on average."""


class Unmetered:
    """A `Meter` for where nobody looks."""

    def ended(self, outcome: Outcome, seconds: float) -> None: ...

    def refused(self, reason: str) -> None: ...

    def placed(self, seconds: float) -> None: ...

    def moved(self, stage: str, reason: Literal["lost", "stalled"]) -> None: ...

    def resumed(self, steps: int) -> None: ...

    def stalled(self, stage: str) -> None: ...

    def preview(self, kind: PreviewKind) -> None: ...

    def first_preview(self, seconds: float) -> None: ...

    def queued(self, seconds: float) -> None: ...

    def tick(self, seconds: float, rows: int) -> None: ...

    def step(self, seconds: float) -> None: ...
