"""The kit: each rule is checked by itself, and jobs that several rules look at are run once.

from runners.framework_kit.kit import RULES, Kit

@pytest.fixture(scope="module")
def kit():
    with Kit("my_package.framework:MyFramework") as kit:
        yield kit

@pytest.mark.parametrize("rule", RULES)
def test_it_keeps_the_rules(kit, rule):
    kit.check(rule)
"""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from runners.framework_kit.checks import images, manifest, refusals, surroundings, training
from runners.framework_kit.jobs import Jobs
from runners.framework_kit.rules import RULES, Broken, NotChecked
from runners.framework_kit.trial import Trial

__all__ = ["RULES", "Broken", "Kit", "NotChecked", "Trial"]

Check = Callable[[Jobs], str]
"""Returns what was seen. Raises Broken."""

_CHECKS: Mapping[str, Check] = {
    "F1": manifest.is_light,
    "F2": manifest.is_valid,
    "F3": manifest.models_are_sound,
    "F4": manifest.hyperparameters_are_sound,
    "F5": surroundings.can_be_forked,
    "F6": surroundings.good_jobs_succeed,
    "F7": surroundings.forked_as_anew,
    "F8": surroundings.ends_clean,
    "F9": surroundings.says_what_it_may,
    "F10": refusals.unknown_model,
    "F11": refusals.bad_hyperparameter,
    "F12": refusals.no_dataset,
    "F13": refusals.no_checkpoint,
    "F14": surroundings.stages_in_order,
    "F15": training.epochs,
    "F16": training.metrics,
    "F17": training.checkpoints,
    "F18": surroundings.files_are_whole,
    "F19": training.result,
    "F20": training.polls,
    "F21": training.stops,
    "F22": training.resumes,
    "F23": training.repeats,
    "F24": training.validation,
    "F25": images.in_order,
    "F26": images.unreadable,
    "F27": images.inside,
    "F28": images.totals,
    "F29": images.vectors,
    "F30": surroundings.leaves_nothing,
    "F31": surroundings.asks_no_network,
}


class Kit:
    """One framework under examination. A context manager; `close` ends what it has started."""

    def __init__(self, framework: str, trial: Trial | None = None, folder: Path | None = None) -> None:
        """`framework` is the name of an installed one, or "module:Class"; files go below `folder`.

        Without `folder` they go to a temporary one, which is removed. Raises FrameworkNotFound, and NoData
        where the trial lacks what the kit cannot make.
        """
        self._own = None if folder else tempfile.TemporaryDirectory(prefix="framework-kit-")
        try:
            self._jobs = Jobs(framework, trial or Trial(), folder or Path(str(self._own and self._own.name)))
        except BaseException:
            self._remove()
            raise

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """End what was started, and remove a temporary folder."""
        self._jobs.close()
        self._remove()

    def _remove(self) -> None:
        if self._own is not None:
            self._own.cleanup()

    def applies(self, rule: str) -> bool:
        """Whether the framework runs jobs that the rule is about."""
        kinds = RULES[rule].kinds
        return not kinds or bool(kinds & set(self._jobs.manifest.kinds))

    def check(self, rule: str) -> str:
        """Look at one rule; what was seen. Raises Broken, or NotChecked where another rule forbids it."""
        if not self.applies(rule):
            return f"is about {' or '.join(sorted(RULES[rule].kinds))}, which it does not run"
        try:
            return _CHECKS[rule](self._jobs)
        except Broken as broken:
            if broken.rule == rule:
                raise
            raise NotChecked(f"it cannot be looked at while {broken.rule} is not kept") from broken
