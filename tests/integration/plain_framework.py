"""A framework without a network: what its jobs do is the name of their model.

Loaded by job processes as "plain_framework:Plain", with this folder on PYTHONPATH.
"""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from runners.framework import Framework
from runners.process.commands import Commands
from runners.process.emitter import Emitter
from runners.process.environment import JobEnvironment
from runners.process.errors import Stopped, UserError
from visionmesh.v1 import process_pb2, progress_pb2, result_pb2, runner_pb2, vision_pb2

PRELOADED_BY: int | None = None


class Plain(Framework):
    """Needs nothing but Python."""

    name = "plain"
    packages = ("protobuf",)

    def manifest(self) -> runner_pb2.FrameworkManifest:
        return runner_pb2.FrameworkManifest(
            framework="plain",
            version="1",
            kinds=["train", "validate", "infer"],
            tasks=[vision_pb2.TASK_DETECT],
        )

    def preload(self) -> None:
        global PRELOADED_BY
        PRELOADED_BY = PRELOADED_BY or os.getpid()
        os.environ["PLAIN_SAFE_LOAD"] = "1"

    def device(self, environment: JobEnvironment) -> str:
        return "cpu"

    def run(self, environment: JobEnvironment, emitter: Emitter, commands: Commands) -> None:
        getattr(self, environment.model_name or "epochs")(environment, emitter, commands)

    def probe(self, environment: JobEnvironment, emitter: Emitter, commands: Commands) -> None:
        """Tell what there is to see from inside."""
        seen = {
            "environ": dict(os.environ),
            "fds": sorted(int(fd.name) for fd in Path("/proc/self/fd").iterdir()),
            "session": os.getsid(0),
            "group": os.getpgid(0),
            "pid": os.getpid(),
            "cwd": str(Path.cwd()),
            "random": random.random(),  # noqa: S311 - to compare
            "preloaded_by": PRELOADED_BY,
            "default_sigterm": signal.getsignal(signal.SIGTERM) == signal.SIG_DFL,
        }
        emitter.log(progress_pb2.LOG_LEVEL_INFO, json.dumps(seen))

    def epochs(self, environment: JobEnvironment, emitter: Emitter, commands: Commands) -> None:
        """A training with a checkpoint per epoch, and a progress bar."""
        emitter.stage(vision_pb2.STAGE_TRAINING)
        print(f"dataset: {sorted(p.name for p in environment.dataset_path.iterdir())}", flush=True)
        for epoch in range(1, environment.epochs + 1):
            commands.poll()
            sys.stderr.write(f"\repoch {epoch} 50%\repoch {epoch} 100%\n")
            metrics = {"mAP50": epoch / environment.epochs, "train_loss": float("nan")}
            emitter.epoch(
                epoch, environment.epochs, metrics, learning_rate=0.1, duration_s=1.0, eta_s=2.0, is_best=True
            )
            self._checkpoint(environment, emitter, epoch)
        emitter.training_result(result_pb2.TrainingResult(best_epoch=environment.epochs))

    def _checkpoint(self, environment: JobEnvironment, emitter: Emitter, epoch: int) -> None:
        part = environment.output_path / "last.part"
        part.write_bytes(f"epoch {epoch}".encode() * 100_000)
        part.replace(environment.output_path / "last.pt")
        emitter.file(
            process_pb2.OutputFile(
                path="last.pt",
                artifact="last",
                kind=result_pb2.ARTIFACT_KIND_CHECKPOINT,
                content_type="application/octet-stream",
                checkpoint=progress_pb2.CheckpointSaved(epoch=epoch, resumable=True),
            )
        )

    def predict(self, environment: JobEnvironment, emitter: Emitter, commands: Commands) -> None:
        """Predict on each image: its size is its width."""
        lines = environment.image_paths.read_text().splitlines()
        for index, line in enumerate(lines):
            if index >= environment.first_image_index:
                image = json.loads(line)
                width = Path(image["path"]).stat().st_size
                emitter.prediction(
                    result_pb2.ImagePrediction(index=index, image_uri=image["uri"], width=width, height=1)
                )
        emitter.inference_result(result_pb2.InferenceResult(total_images=len(lines)))

    def draw(self, environment: JobEnvironment, emitter: Emitter, commands: Commands) -> None:
        """Predict on each image, and leave a picture of each."""
        lines = environment.image_paths.read_text().splitlines()
        for index in range(environment.first_image_index, len(lines)):
            (environment.output_path / f"{index}.jpg").write_bytes(b"picture %d" % index)
            file = process_pb2.OutputFile(path=f"{index}.jpg", artifact=f"overlays/{index}.jpg")
            file.kind, file.content_type = result_pb2.ARTIFACT_KIND_OVERLAY, "image/jpeg"
            emitter.file(file)
            drawn = f"jobs/{environment.job_id}/artifacts/{file.artifact}"
            emitter.prediction(result_pb2.ImagePrediction(index=index, overlay_artifact=drawn))
        emitter.inference_result(result_pb2.InferenceResult(total_images=len(lines)))

    def wait(self, environment: JobEnvironment, emitter: Emitter, commands: Commands) -> None:
        """Run until stopped, then leave a checkpoint."""
        emitter.stage(vision_pb2.STAGE_TRAINING)
        try:
            while True:
                commands.poll()
                time.sleep(0.01)
        except Stopped:
            self._checkpoint(environment, emitter, 1)
            raise

    def deaf(self, environment: JobEnvironment, emitter: Emitter, commands: Commands) -> None:
        """Do not listen, with children that do not either; one of them in a session of its own."""
        ignore = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
        child = subprocess.Popen([sys.executable, "-c", ignore])
        hidden = subprocess.Popen([sys.executable, "-c", ignore], start_new_session=True)
        emitter.log(progress_pb2.LOG_LEVEL_INFO, json.dumps([os.getpid(), child.pid, hidden.pid]))
        time.sleep(600)

    def killed(self, environment: JobEnvironment, emitter: Emitter, commands: Commands) -> None:
        """Die of the signal named by the seed."""
        os.kill(os.getpid(), environment.seed)

    def leave(self, environment: JobEnvironment, emitter: Emitter, commands: Commands) -> None:
        """Exit with the code named by the seed, without a word."""
        print("about to leave", flush=True)
        os._exit(environment.seed)

    def fail(self, environment: JobEnvironment, emitter: Emitter, commands: Commands) -> None:
        """Fail as frameworks do."""
        raise RuntimeError("shapes do not match")

    def refuse(self, environment: JobEnvironment, emitter: Emitter, commands: Commands) -> None:
        """Blame the user."""
        raise UserError("The labels are wrong.", reason="DATASET_INVALID")

    def shout(self, environment: JobEnvironment, emitter: Emitter, commands: Commands) -> None:
        """Print far too much."""
        for number in range(environment.epochs):
            print(f"line {number}")

    def usurp(self, environment: JobEnvironment, emitter: Emitter, commands: Commands) -> None:
        """Say what a job process must not, and name files that are not its own."""
        (environment.output_path / "link").symlink_to("/etc/hostname")
        for path in ("../../secret", "/etc/hostname", "link", "absent"):
            emitter.file(process_pb2.OutputFile(path=path, artifact="stolen"))
        update = progress_pb2.ProgressUpdate(
            attempt_ended=progress_pb2.AttemptEnded(outcome=vision_pb2.ATTEMPT_STATE_SUCCEEDED)
        )
        emitter._write(process_pb2.ProcessEvent(progress=update))


class Threaded(Plain):
    """Leaves a thread behind when it is imported."""

    def preload(self) -> None:
        threading.Thread(target=time.sleep, args=(600,), daemon=True).start()


class Publishing(Plain):
    """Its models `probe` and `wait` have published weights; those of `wait` never come."""

    def manifest(self) -> runner_pb2.FrameworkManifest:
        told = super().manifest()
        told.models.extend(runner_pb2.ModelInfo(name=name, pretrained=True) for name in ("probe", "wait"))
        return told

    def fetch_weights(self, model: str, folder: Path, mirror: str) -> Path:
        """Write down what the fetching process knows."""
        if model == "wait":
            (folder.parent / "pid").write_text(str(os.getpid()))
            time.sleep(600)
        path = folder / "weights.bin"
        path.write_text(json.dumps({"mirror": mirror, "environ": dict(os.environ)}))
        return path
