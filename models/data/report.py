"""What was read and what was not: bad data is skipped, but counted and named."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, order=True)
class Skipped:
    """Something that could not be used."""

    kind: str  # what it is: "chunk", "scene", "frame", "example" or "pair"
    where: str
    why: str

    def __str__(self) -> str:
        return f"{self.kind} {self.where}: {self.why}"


@dataclass
class Report:
    """Tells of everything that was asked for whether it was used. It grows while data is read."""

    used: Counter[str] = field(default_factory=Counter)  # by kind
    skipped: Counter[Skipped] = field(default_factory=Counter)  # how often each was met

    def use(self, kind: str, count: int = 1) -> None:
        """Count what was used."""
        self.used[kind] += count

    def skip(self, kind: str, where: str, why: str) -> None:
        """Count and name what was not."""
        self.skipped[Skipped(kind, where, why)] += 1

    def add(self, other: "Report") -> None:
        """Take over what another one found."""
        self.used.update(other.used)
        self.skipped.update(other.skipped)

    def count_skipped(self, kind: str) -> int:
        """How many different things of a kind were skipped; one with two faults counts once."""
        return len({skipped.where for skipped in self.skipped if skipped.kind == kind})

    def summary(self) -> str:
        """One line: how many of how many were used, of each kind."""
        kinds = [*self.used, *(skipped.kind for skipped in self.skipped)]
        return ", ".join(
            f"{self.used[kind]} of {self.used[kind] + self.count_skipped(kind)} {kind}s"
            for kind in dict.fromkeys(kinds)
        )

    def lines(self, limit: int = 20) -> list[str]:
        """The summary, and what was skipped with its reasons; the rest is counted."""
        named = [str(skipped) for skipped in sorted(self.skipped)]
        more = [f"and {len(named) - limit} more"] if len(named) > limit else []
        return [self.summary(), *named[:limit], *more]


def gather(reports: Iterable[Report]) -> Report:
    """All of them in one."""
    whole = Report()
    for report in reports:
        whole.add(report)
    return whole
