"""Work on a recording, cut so that several processes or machines share it; they know nothing of where it lies."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Place:
    """Where one step works: whatever it writes below `output`, which begins empty, becomes part of the results."""

    url: str  # what a person calls the recording
    folder: Path  # holds those of its files that the step needs
    output: Path  # called like the recording
    luggage: Path  # small files that came along from where the work was ordered
    is_own: bool  # the results go into the recording itself
    there: tuple[str, ...] = ()  # at the end: what lies in the results' folder `photos` by now

    def told(self, text: str) -> str:
        """A message without the path that only this step knows."""
        for path, name in ((self.folder, self.url), (self.output, self.url), (self.luggage, "luggage")):
            text = text.replace(str(path), name)
        return text


@dataclass(frozen=True, slots=True)
class Share:
    """What one process makes of one file of the recording."""

    name: str  # unlike all others of the recording
    file: str
    size: int  # of that file, bytes
    work: Any


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done: shares in any order, then the end, which gets `head`."""

    head: Any = None
    shares: tuple[Share, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a recording; `gone` are files of earlier results that no table tells of any more."""

    summary: dict[str, Any]
    gone: tuple[str, ...] = ()
    way: tuple[tuple[float, float], ...] = ()  # latitude and longitude, coarse: for a map of all


@dataclass(frozen=True, slots=True)
class Steps(ABC):
    """A kind of work; it goes to other machines, so all that it holds must be small and picklable."""

    kind: ClassVar[str]  # a word for file names
    wanted: ClassVar[str]  # in words: what makes a folder a recording for it

    @abstractmethod
    def inputs(self, names: Sequence[str]) -> list[str]:
        """Of a recording's files those on which the result depends; none: it is no recording for this work."""

    def needs(self, names: Sequence[str]) -> list[str]:
        """Those that `prepare` reads."""
        return []

    def needs_at_end(self, names: Sequence[str]) -> list[str]:
        """Those that `finish` reads."""
        return []

    def keeps(self, names: Sequence[str]) -> list[str]:
        """Those that are copied beside results which lie elsewhere."""
        return []

    def prepare(self, place: Place) -> Plan:
        """Look at the whole recording once; without it, all is done at the end. Raises EdencarError."""
        return Plan()

    def make(self, share: Share, place: Place) -> list[dict[str, Any]]:
        """Do one share; what came of it, as JSON has it. Raises EdencarError, OSError."""
        raise NotImplementedError

    @abstractmethod
    def finish(self, head: Any, lines: Sequence[dict[str, Any]], place: Place) -> Result:
        """Put together what came of all shares. Raises EdencarError, OSError."""
