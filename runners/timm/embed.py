"""Embeds images: `CHECKPOINT_PATH=… IMAGE_PATHS=… python -m runners.timm.embed`."""

from runners.process.commands import Commands
from runners.process.emitter import Emitter
from runners.process.entry import run
from runners.process.environment import JobEnvironment
from runners.process.errors import UserError
from visionmesh.v1 import vision_pb2


def embed(environment: JobEnvironment, device: str, emitter: Emitter, commands: Commands) -> None:
    """Embed by `environment`: what the classifier's last layer sees of each image, as a vector."""
    from runners.pytorch import threads
    from runners.timm import asking, classifier
    from runners.vision import images
    from runners.vision.inference import Inference

    emitter.stage(vision_pb2.STAGE_STARTING)
    if environment.checkpoint_path is None:
        text = "CHECKPOINT_PATH is not set, and vectors of random weights say nothing. Name a trained one."
        raise UserError(text, reason="CHECKPOINT_NOT_FOUND")
    listed = images.list_images(environment.image_paths)
    emitter.stage(vision_pb2.STAGE_LOADING_MODEL)
    found = classifier.restore(classifier.read(environment.checkpoint_path), environment.image_size)
    threads.use(environment.cpu_threads)
    emitter.stage(vision_pb2.STAGE_PREDICTING, f"{len(listed)} images")
    asked = asking.Embedder(found, device, environment.normalize)
    Inference(environment, asked, listed, emitter, commands).run()


if __name__ == "__main__":
    from runners.timm.framework import Timm

    raise SystemExit(run("embed", Timm()))
