"""What a training leaves: best.safetensors and last.pt."""

from collections.abc import Mapping
from typing import Any

from runners.process.emitter import Emitter
from runners.process.environment import JobEnvironment
from runners.process.history import History
from runners.timm import classifier
from runners.timm.classifier import Classifier, State

BEST, LAST = "best.safetensors", "last.pt"


class Output:
    """Writes checkpoints, and announces them."""

    def __init__(self, environment: JobEnvironment, emitter: Emitter, resumed_at: int = 0) -> None:
        """`resumed_at` is the epoch of the checkpoint from which this attempt goes on; 0 for none."""
        self._folder, self._emitter = environment.output_path, emitter
        self.published_last = self._published_best = resumed_at
        """The epoch of the last checkpoint that was announced."""
        self._has_last = self._has_best = False

    def write_best(self, found: Classifier, weights: State) -> None:
        """Keep the weights of the best epoch."""
        classifier.write_best(self._folder / BEST, found, weights)
        self._has_best = True

    def write_last(self, found: Classifier, weights: State, training: Mapping[str, Any]) -> None:
        """Keep all that the next attempt needs to go on after this epoch."""
        classifier.write_last(self._folder / LAST, found, weights, training)
        self._has_last = True

    def publish(self, history: History) -> None:
        """Announce the checkpoints that are newer than those announced before; best first.

        In this order the best in the store is never older than the last: who resumes from the last
        finds every improvement up to it.
        """
        best = history.best
        newest = history.epochs[-1].number if history.epochs else 0
        if best is not None and self._has_best and best.number > self._published_best:
            self._emitter.checkpoint("best", BEST, best.number, resumable=False, is_best=True)
            self._published_best = best.number
        if self._has_last and newest > self.published_last:
            is_best = best is not None and best.number == newest
            self._emitter.checkpoint("last", LAST, newest, resumable=True, is_best=is_best)
            self.published_last = newest
