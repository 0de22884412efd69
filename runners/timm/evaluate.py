"""Measures a checkpoint: `CHECKPOINT_PATH=… DATASET_PATH=… python -m runners.timm.evaluate`."""

from runners.process.commands import Commands
from runners.process.emitter import Emitter
from runners.process.entry import run
from runners.process.environment import JobEnvironment
from runners.process.errors import UserError
from visionmesh.v1 import vision_pb2


def evaluate(environment: JobEnvironment, device: str, emitter: Emitter, commands: Commands) -> None:
    """Measure by `environment`, and leave pictures of the confusion matrix below its output path."""
    from runners.pytorch import confusion, threads
    from runners.timm import classifier, data
    from runners.timm.measuring import measure

    emitter.stage(vision_pb2.STAGE_STARTING, "checking the dataset")
    names = data.check(environment.dataset_path, (environment.split,))
    assert environment.dataset_path is not None  # noqa: S101 - it was checked
    commands.poll()
    emitter.stage(vision_pb2.STAGE_LOADING_MODEL)
    found = classifier.restore(classifier.read(environment.checkpoint_path), environment.image_size)
    _compare_classes(found.class_names, names)
    threads.use(environment.cpu_threads)
    emitter.stage(vision_pb2.STAGE_VALIDATING, environment.split)

    def tell(batch: int, batches: int, images_per_second: float) -> None:
        commands.poll()
        if emitter.is_due("batch") or batch == batches:
            emitter.batch(0, batch, batches, loss=0.0, images_per_second=images_per_second)

    chosen = data.split(environment.dataset_path, environment.split, found.preprocessing.transform())
    batches = data.loader(chosen, environment.batch_size, 0 if device == "cpu" else 4)
    network = found.network.to(device)
    result = measure(network, batches, len(names), device, tell).result(found.class_names)
    emitter.stage(vision_pb2.STAGE_FINISHING)
    confusion.publish(result.confusion_matrix, environment, emitter)
    emitter.validation_result(result)


def _compare_classes(model: tuple[str, ...], dataset: tuple[str, ...]) -> None:
    if model != dataset:
        raise UserError(
            f"The checkpoint knows the classes {', '.join(model[:5])} ({len(model)}), the dataset "
            f"{', '.join(dataset[:5])} ({len(dataset)}). Measure on a dataset with the checkpoint's classes."
        )


if __name__ == "__main__":
    from runners.timm.framework import Timm

    raise SystemExit(run("validate", Timm()))
