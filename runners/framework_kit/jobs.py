"""The jobs that the checks look at; each is run once, when it is first asked for."""

import asyncio
import base64
import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from runners.agent.job_process import LaunchFailed
from runners.framework import FrameworkNotFound
from runners.framework_kit.play import Played, Player
from runners.framework_kit.rules import LOOKS, Broken
from runners.framework_kit.trial import BROKEN_INDEX, FIRST_INDEX, Trial, count, write_dataset, write_images
from runners.process.environment import JobEnvironment
from visionmesh.v1 import runner_pb2, vision_pb2

_DESCRIBE_SECONDS = 120


class Jobs:
    """Jobs of one framework."""

    def __init__(self, framework: str, trial: Trial, folder: Path) -> None:
        """Raises FrameworkNotFound or NoData."""
        self.trial, self.folder = trial, folder.absolute()
        self.described = _describe(framework)
        self.manifest = runner_pb2.FrameworkManifest.FromString(base64.b64decode(self.described["manifest"]))
        self.model = trial.model or _smallest(self.manifest)
        self.task = trial.task or self._first_task()
        self.unforkable = ""
        """Why no process can be forked after preload; empty if one can, or nobody has tried."""
        self._done: dict[str, Played | Broken] = {}
        self._player: Player | None = None
        self._framework = framework
        self._forks = True
        self.dataset = write_dataset(trial, self.task, self.folder / "dataset") if self._learns else None
        self.images = write_images(trial, self.folder / "images") if LOOKS & set(self.manifest.kinds) else []
        self._runner = asyncio.Runner()

    @property
    def _learns(self) -> bool:
        return bool({"train", "validate"} & set(self.manifest.kinds))

    @property
    def kinds(self) -> list[str]:
        """The kinds of its jobs that the kit knows; training first."""
        known = ["train", "validate", *sorted(LOOKS)]
        return [kind for kind in known if kind in self.manifest.kinds]

    @property
    def looks(self) -> list[str]:
        """The kinds of its jobs that go through images."""
        return [kind for kind in self.manifest.kinds if kind in LOOKS]

    def batches(self) -> int:
        """Batches of an epoch."""
        assert self.dataset is not None  # noqa: S101 - asked of trainings only
        return -(-count(self.dataset, "train") // self.trial.batch_size)

    def images_of(self, split: str) -> int:
        """Images of a split."""
        assert self.dataset is not None  # noqa: S101 - asked of measuring only
        return count(self.dataset, split)

    def good(self) -> list[Played]:
        """A good job of each kind. Raises Broken for F6."""
        return [self._good_one(kind) for kind in self.kinds]

    def _good_one(self, kind: str) -> Played:
        if kind == "train":
            return self.trained()
        return self.validated() if kind == "validate" else self.looked(kind)

    def trained(self) -> Played:
        """A training from beginning to end. Raises Broken for F6."""
        return self._good("trained", self.training)

    def validated(self) -> Played:
        """A validation of the best checkpoint. Raises Broken for F6."""
        return self._good("validated", self._validation)

    def looked(self, kind: str) -> Played:
        """A job that goes through the images from FIRST_INDEX on. Raises Broken for F6 or F26."""
        made = partial(self._looking, kind)
        played = self.played(f"looked-{kind}", lambda: self._forked_or_anew(made, f"looked-{kind}"))
        if not played.succeeded and self._goes_without_broken(kind):
            raise Broken("F26", f"{kind}: one image that cannot be read ends the job. {played.story()}")
        return self._succeeded(played)

    def _goes_without_broken(self, kind: str) -> bool:
        name = f"whole-{kind}"
        listed = self._list(name, [path for path in self.images if path != self.images[BROKEN_INDEX]])
        made = self._looking(kind, name, image_paths=listed)
        return self.played(name, lambda: self._play(made)).succeeded

    def anew(self) -> Played:
        """A training, or else another job, in a fresh process. Raises Broken for F6."""
        made = self._making(self.kinds[0])
        return self._succeeded(self.played("anew", lambda: self._play(made("anew"), forked=False)))

    def stopped(self) -> Played:
        """A training that is stopped in its second epoch, before a last checkpoint is due.

        Raises Broken for F6 if not even one that is not stopped goes well.
        """
        self.trained()
        period = self.trial.epochs
        made = self.training("stopped", checkpoint_period=period)
        return self.played("stopped", lambda: self._play(made, holds=True))

    def resumed(self) -> Played:
        """The rest of the stopped one. Raises Broken for F21 if that has left no checkpoint."""
        before = self.stopped()
        if before.end is None or before.end.outcome != vision_pb2.ATTEMPT_STATE_CANCELLED:
            raise Broken("F21", f"it was not stopped: {before.story()}")
        last = self.checkpoint(before, "last", "F21")
        made = self.training("resumed", resume=True, attempt=2, checkpoint_path=last)
        return self.played("resumed", lambda: self._play(made))

    def refused(self, name: str, environment: JobEnvironment) -> Played:
        """A job that should be the user's error. Raises Broken for F6 if not even a good one goes well."""
        self._good_one(environment.kind)
        return self.played(name, lambda: self._play(environment))

    def training(self, name: str, **settings: Any) -> JobEnvironment:
        """What a training is told."""
        values: dict[str, Any] = {
            "model_name": self.model or None,
            "epochs": self.trial.epochs,
            "hyperparameters": self.trial.hyperparameters,
            "seed": 7,
        }
        return self._environment("train", name, {**values, **settings})

    def working(self, kind: str, name: str, **settings: Any) -> JobEnvironment:
        """What a good job of `kind` is told, but for `settings`."""
        return self._making(kind)(name, **settings)

    def checkpoint(self, played: Played, artifact: str, rule: str) -> Path:
        """A checkpoint as it was when it was announced. Raises Broken for `rule` if there is none."""
        found = [kept for kept in played.files if kept.file.artifact == artifact and kept.sha256]
        if not found:
            raise Broken(rule, f"the training left no {artifact!r} checkpoint")
        return found[-1].path

    def played(self, name: str, play: Callable[[], Played]) -> Played:
        """The job of that name, run now if it has not been. Raises what running it raised."""
        if name not in self._done:
            try:
                self._done[name] = play()
            except Broken as broken:
                self._done[name] = broken
        done = self._done[name]
        if isinstance(done, Broken):
            raise done
        return done

    def can_fork(self) -> bool:
        """Whether jobs can be forked after preload; `unforkable` says why not."""
        self._started()
        return not self.unforkable

    def close(self) -> None:
        """End what was started."""
        if self._player is not None:
            self._runner.run(self._player.close())
        self._runner.close()

    def _good(self, name: str, made: Callable[[str], JobEnvironment]) -> Played:
        return self._succeeded(self.played(name, lambda: self._forked_or_anew(made, name)))

    def _forked_or_anew(self, made: Callable[[str], JobEnvironment], name: str) -> Played:
        """By a fork, unless only a fresh process can do it."""
        forked = self._play(made(name))
        if forked.succeeded or not self._forks:
            return forked
        anew = self._play(made(f"{name}-anew"), forked=False)
        if anew.succeeded:
            self._forks = False
            self._done.setdefault("forked", forked)
        return anew

    def fork_failure(self) -> Played | None:
        """The forked job that failed where a fresh process succeeded."""
        found = self._done.get("forked")
        return found if isinstance(found, Played) else None

    def _succeeded(self, played: Played) -> Played:
        if not played.succeeded:
            kind = played.environment.kind
            raise Broken("F6", f"a {kind} job ended otherwise than well. {played.story()}")
        return played

    def _making(self, kind: str) -> Callable[..., JobEnvironment]:
        if kind == "train":
            return self.training
        if kind == "validate":
            return self._validation
        return lambda name, **settings: self._looking(kind, name, **settings)

    def _validation(self, name: str, **settings: Any) -> JobEnvironment:
        return self._environment("validate", name, {"checkpoint_path": self._weights(), **settings})

    def _looking(self, kind: str, name: str, **settings: Any) -> JobEnvironment:
        weights = self._weights()
        values: dict[str, Any] = {
            "model_name": None if weights else self.model or None,
            "checkpoint_path": weights,
            "image_paths": self._list(f"images-{kind}", self.images),
            "first_image_index": FIRST_INDEX,
            "confidence_threshold": 0.001,  # what has hardly learnt finds little above
            "max_detections": 20,
        }
        if kind == "embed_faces" and self.trial.embedding_checkpoint is not None:
            values["embedding_checkpoint_path"] = self.trial.embedding_checkpoint.absolute()
        return self._environment(kind, name, {**values, **settings})

    def _list(self, name: str, images: list[Path]) -> Path:
        listed = self.folder / f"{name}.jsonl"
        lines = [json.dumps({"path": str(path), "uri": f"kit/{path.name}"}) for path in images]
        listed.write_text("\n".join(lines) + "\n")
        return listed

    def _weights(self) -> Path | None:
        if self.trial.checkpoint is not None:
            return self.trial.checkpoint.absolute()
        if "train" not in self.manifest.kinds:
            return None
        return self.checkpoint(self.trained(), "best", "F17")

    def _environment(self, kind: str, name: str, values: dict[str, Any]) -> JobEnvironment:
        task = self.task if kind in {"train", "validate", "infer"} else None
        own: dict[str, Any] = {
            "kind": kind,
            "task": task or None,
            "job_id": name,
            "output_path": self.folder / "jobs" / name,
            "dataset_path": self.dataset if kind in {"train", "validate"} else None,
            "batch_size": self.trial.batch_size,
            "image_size": self.trial.image_size,
            "device": "cpu",
            "cpu_threads": 1,  # tiny jobs: more would only wait for each other
        }
        return JobEnvironment(**{**own, **values})

    def _play(self, environment: JobEnvironment, *, forked: bool = True, holds: bool = False) -> Played:
        player = self._started()
        inputs = [
            path for path in (environment.dataset_path, environment.checkpoint_path) if path is not None
        ]
        inputs += [self.folder / "images"] if environment.image_paths else []
        forked = forked and self._forks
        try:
            return self._runner.run(player.play(environment, inputs, forked=forked, holds=holds))
        except LaunchFailed as failed:
            raise Broken("F7", f"no job process could be started: {failed}") from failed

    def _started(self) -> Player:
        if self._player is None:
            self._player = Player(self._framework, self.folder / "kit", self.trial.job_seconds)
            try:
                self._runner.run(self._player.preload())
            except LaunchFailed as failed:
                self._forks, self.unforkable = False, str(failed)
        return self._player

    def _first_task(self) -> str:
        model = next((model for model in self.manifest.models if model.name == self.model), None)
        tasks = [*(model.tasks if model else ()), *self.manifest.tasks]
        return vision_pb2.Task.Name(tasks[0]).removeprefix("TASK_").lower() if tasks else ""


def _describe(framework: str) -> dict[str, Any]:
    told = subprocess.run(
        [sys.executable, "-m", "runners.framework_kit.describe", framework],
        check=False,
        capture_output=True,
        text=True,
        timeout=_DESCRIBE_SECONDS,
    )
    if told.returncode:
        words = told.stderr.strip().splitlines() or ["it said nothing"]
        raise FrameworkNotFound(f"The manifest of {framework!r} cannot be read: {words[-1]}")
    found: dict[str, Any] = json.loads(told.stdout.splitlines()[-1])
    return found


def _smallest(manifest: runner_pb2.FrameworkManifest) -> str:
    sized = [model for model in manifest.models if model.parameters_millions]
    if sized:
        return min(sized, key=lambda model: model.parameters_millions).name
    return manifest.models[0].name if manifest.models else ""
