"""Embeds images: `CHECKPOINT_PATH=… IMAGE_PATHS=… python -m runners.ultralytics.embed`."""

from typing import TYPE_CHECKING, Any

from runners.process.commands import Commands
from runners.process.emitter import Emitter
from runners.process.entry import run
from runners.process.environment import JobEnvironment
from runners.process.errors import UserError
from runners.ultralytics import predict

if TYPE_CHECKING:
    from runners.ultralytics.checkpoints import Checkpoint
    from runners.vision.inference import Predictor


def embed(environment: JobEnvironment, device: str, emitter: Emitter, commands: Commands) -> None:
    """Embed by `environment`, as `predict.look` goes through the images."""
    predict.look(_embedder, environment, device, emitter, commands)


def _embedder(
    environment: JobEnvironment, checkpoint: "Checkpoint", arguments: dict[str, Any]
) -> "Predictor":
    from runners.ultralytics.embedder import Embedder

    if checkpoint.family == "sam":
        raise UserError(
            f"{checkpoint.path.name} is a SAM, which gives no vectors here. Use another checkpoint.",
            reason="UNSUPPORTED",
        )
    return Embedder(checkpoint, arguments, normalize=environment.normalize)


if __name__ == "__main__":
    from runners.ultralytics.framework import Ultralytics

    raise SystemExit(run("embed", Ultralytics()))
