"""What a dataset holds, and what is wrong with it, in whatever layout."""

from dataclasses import dataclass, field

SPLITS = ("train", "val", "test")

SPLIT_FOLDERS = {"train": ("train",), "val": ("val", "valid"), "test": ("test",)}
"""Names under which each split is found, the usual one first."""

MAX_PROBLEMS = 10_000
"""Problems that a report lists; the rest are counted."""

SERVES = {
    "detect": ("detect",),
    "segment": ("segment", "detect"),
    "classify": ("classify",),
    "pose": ("pose", "detect"),
    "obb": ("obb", "segment", "detect"),
}
"""What labels of each form are good for: an outline has a box around it, four corners are an outline."""


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
    class_instances: tuple[int, ...] = ()
    """Of these by class id."""


@dataclass
class DatasetReport:
    """What a dataset holds, and what is wrong with it."""

    class_names: list[str] = field(default_factory=list)
    tasks: tuple[str, ...] = ("detect",)
    """What the labels are good for, as in Task, in lower case; what they say most about comes first."""
    lacking: dict[str, str] = field(default_factory=dict, compare=False)
    """By task, why the labels are not good for it, where that needs a reason."""
    keypoint_names: tuple[str, ...] = ()
    """In order; empty if they have none."""
    keypoint_shape: tuple[int, int] | None = None
    """Keypoints of each object, and numbers of each: 2 (x, y) or 3 (and whether it is visible)."""
    flip_indices: tuple[int, ...] = ()
    """Which keypoint each becomes in the mirror; empty if that is not known."""
    splits: list[SplitReport] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    """The first MAX_PROBLEMS."""
    problem_count: int = 0
    """All of them."""

    @property
    def task(self) -> str:
        """What the labels are for, unless something else is asked of them."""
        return self.tasks[0]

    def prefer(self, task: str) -> str | None:
        """Take `task` for what the labels are for; why they are not good for it, or None."""
        if task not in self.tasks:
            why = self.lacking.get(task, "they hold nothing for it")
            return f"the labels are for {' or '.join(self.tasks)}, not for {task}: {why}"
        self.tasks = (task, *(other for other in self.tasks if other != task))
        return None

    def take_problems(self, other: "DatasetReport") -> None:
        """Add the problems of another report."""
        self.problems += other.problems[: MAX_PROBLEMS - len(self.problems)]
        self.problem_count += other.problem_count

    def add_problem(self, file: str, line: int, message: str) -> None:
        """Note a problem."""
        self.problem_count += 1
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem(file, line, message))
