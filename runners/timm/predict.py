"""Classifies images: `CHECKPOINT_PATH=… IMAGE_PATHS=… python -m runners.timm.predict`."""

from runners.process.commands import Commands
from runners.process.emitter import Emitter
from runners.process.entry import run
from runners.process.environment import JobEnvironment
from visionmesh.v1 import vision_pb2


def predict(environment: JobEnvironment, device: str, emitter: Emitter, commands: Commands) -> None:
    """Predict by `environment`: the top_k classes of each image."""
    from runners.pytorch import threads
    from runners.timm import asking, classifier
    from runners.vision import images
    from runners.vision.inference import Inference

    emitter.stage(vision_pb2.STAGE_STARTING)
    listed = images.list_images(environment.image_paths)
    emitter.stage(vision_pb2.STAGE_LOADING_MODEL)
    found = classifier.restore(classifier.read(environment.checkpoint_path), environment.image_size)
    threads.use(environment.cpu_threads)
    emitter.stage(vision_pb2.STAGE_PREDICTING, f"{len(listed)} images")
    asked = asking.Namer(found, device, environment.top_k)
    Inference(environment, asked, listed, emitter, commands).run()


if __name__ == "__main__":
    from runners.timm.framework import Timm

    raise SystemExit(run("infer", Timm()))
