"""What a check has found."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How it stands."""

    OK = "ok"
    WARNING = "warning"
    """It works, but not as well as it could, or not for long."""

    PROBLEM = "problem"
    """Something does not work."""


@dataclass(frozen=True)
class Finding:
    """One check's outcome."""

    check: str
    """What was looked at, in a word or two."""

    verdict: Verdict

    seen: str
    """What was seen."""

    advice: str = ""
    """What to do; empty if all is well."""

    def as_object(self) -> dict[str, str]:
        """For JSON."""
        return {name: str(value) for name, value in asdict(self).items()}

    @classmethod
    def from_object(cls, read: Mapping[str, str]) -> "Finding":
        """From JSON. Raises KeyError or ValueError."""
        return cls(read["check"], Verdict(read["verdict"]), read["seen"], read["advice"])


def ok(check: str, seen: str) -> Finding:
    """All is well."""
    return Finding(check, Verdict.OK, seen)


def warning(check: str, seen: str, advice: str) -> Finding:
    """It works for now."""
    return Finding(check, Verdict.WARNING, seen, advice)


def problem(check: str, seen: str, advice: str) -> Finding:
    """It does not work."""
    return Finding(check, Verdict.PROBLEM, seen, advice)
