"""The stages of a rebuild: the parts that are planned and timed by themselves."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from refold.release.pointer import title_of
from refold.sinks.base import Sink


class StageKind(StrEnum):
    """The kinds of stages, in the order of work; the value begins the stage's name."""

    SEAL = "seal"
    STRUCTURE = "structure"
    FOLD = "fold"
    REPLAY = "replay"
    RELATIONS = "relations"
    PUBLISH = "publish"
    EXPECTATIONS = "expectations"
    RELEASE = "release"
    BOOKKEEPING = "bookkeeping"
    """The stages that an orchestrator records around a rebuild."""


@dataclass(frozen=True)
class Stage:
    """A part of a rebuild that is planned and timed by itself; `subject` is the log, sink or store it is about."""

    kind: StageKind
    subject: str = ""

    @classmethod
    def publish(cls, sink: Sink) -> Stage:
        """The stage that publishes to a sink."""
        return cls(StageKind.PUBLISH, title_of(sink))

    def __str__(self) -> str:
        return f"{self.kind} {self.subject}".rstrip()
