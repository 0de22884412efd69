"""Refuses datasets that cannot be learnt from, in the words of their check."""

from runners.process.errors import UserError
from visionmesh.datasets.report import DatasetReport

_SHOWN_PROBLEMS = 5
_TOLD_PROBLEMS = 100


def refuse_problems(report: DatasetReport) -> None:
    """Raise UserError that names file and line of what is wrong, if anything is."""
    if not report.problems:
        return
    violations = [
        (f"{problem.file}:{problem.line}" if problem.line else str(problem.file), problem.message)
        for problem in report.problems[:_TOLD_PROBLEMS]
    ]
    shown = "; ".join(f"{field}: {message}" for field, message in violations[:_SHOWN_PROBLEMS])
    more = report.problem_count - _SHOWN_PROBLEMS
    raise UserError(
        f"The dataset has {report.problem_count} problems: {shown}"
        + (f" (and {more} more)" if more > 0 else ""),
        reason="DATASET_INVALID",
        violations=violations,
    )


def refuse_other_task(report: DatasetReport, task: str) -> None:
    """Raise UserError unless the labels are good for `task`, which is then what they are for."""
    if (problem := report.prefer(task)) is not None:
        text = f"The dataset cannot be used here: {problem}. Use one whose labels are for {task}."
        raise UserError(text, reason="DATASET_UNLABELLED")


def refuse_unlabelled(report: DatasetReport, split: str, how_to_add: str, how_to_label: str) -> None:
    """Raise UserError, with what to do in the words of its layout, unless `split` has labelled objects."""
    found = next((item for item in report.splits if item.name == split), None)
    if found is None:
        there = ", ".join(item.name for item in report.splits) or "none"
        text = f"The dataset has no split {split!r}; it has: {there}. {how_to_add}"
        raise UserError(text, reason="DATASET_INVALID")
    if not found.instances:
        text = f"None of the {found.images} images of split {split!r} has a labelled object. {how_to_label}"
        raise UserError(text, reason="DATASET_UNLABELLED")
