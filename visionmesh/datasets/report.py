"""What a dataset holds, and what is wrong with it, in whatever layout."""

from dataclasses import dataclass, field

SPLITS = ("train", "val", "test")

SPLIT_FOLDERS = {"train": ("train",), "val": ("val", "valid"), "test": ("test",)}
"""Names under which each split is found, the usual one first."""

MAX_PROBLEMS = 100


def split_of(folder: str) -> str | None:
    """The split for which a folder of that name stands."""
    return next((split for split, names in SPLIT_FOLDERS.items() if folder in names), None)


@dataclass(frozen=True)
class Problem:
    """Something wrong with a file."""

    file: str
    """Path within the dataset, with slashes."""
    line: int
    """From 1; 0 for the file as a whole."""
    message: str
    """What is wrong and what would be right."""


@dataclass(frozen=True)
class SplitReport:
    """What is in one split."""

    name: str
    images: int
    labelled_images: int
    """Images of which is known what they show, even if that is nothing."""
    instances: int
    """Labelled objects; for classification, labelled images."""


@dataclass
class DatasetReport:
    """What a dataset holds, and what is wrong with it."""

    class_names: list[str] = field(default_factory=list)
    splits: list[SplitReport] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    """The first hundred."""
    problem_count: int = 0
    """All of them."""

    def add_problem(self, file: str, line: int, message: str) -> None:
        """Note a problem."""
        self.problem_count += 1
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem(file, line, message))
