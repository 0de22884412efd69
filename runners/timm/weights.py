"""Weights that timm knows to be published: for which models, and how they are fetched.

They lie as safetensors on the hub that timm names. What comes is written down in this framework's own form,
with the classes and the preprocessing that the weights were trained with.
"""

from functools import cache
from pathlib import Path

from runners.process.download import download
from runners.process.errors import UserError


@cache
def published() -> frozenset[str]:
    """Models that have some with classes; `python -m runners.timm.weights` lists them for pretrained.txt."""
    return frozenset(Path(__file__).with_name("pretrained.txt").read_text().split())


def fetch(model: str, folder: Path, mirror: str) -> Path:
    """Fetch the weights of `model` into `folder`. Raises UserError, DownloadFailed.

    A `mirror` has the files by the paths of the hub.
    """
    import timm
    from huggingface_hub import constants

    from runners.timm import classifier
    from runners.timm.data import Preprocessing

    hub = timm.get_pretrained_cfg(model).hf_hub_id
    source, path = folder / "model.safetensors", folder / f"{model}.safetensors"
    download(f"{mirror or constants.ENDPOINT}/{hub}/resolve/main/{source.name}", source)
    classifier.read(source)  # refuses what is none
    try:
        network = timm.create_model(model, pretrained=True, pretrained_cfg_overlay={"file": str(source)})
    except (RuntimeError, KeyError) as error:
        text = f"What was fetched for {model} does not fit it: {str(error).splitlines()[0]}."
        raise UserError(text) from error
    found = classifier.Classifier(model, _class_names(model), Preprocessing.of_model(network, None), network)
    classifier.write_best(path, found, network.state_dict())
    source.unlink()
    return path


def _class_names(model: str) -> tuple[str, ...]:
    """As the data set's makers call them; by number where timm does not know them."""
    import timm
    from timm.data import ImageNetInfo, infer_imagenet_subset

    config = timm.get_pretrained_cfg(model)
    if config.label_names:
        return tuple(config.label_names)
    subset = infer_imagenet_subset(config)
    if not subset:
        return tuple(f"class {number}" for number in range(config.num_classes))
    known = ImageNetInfo(subset)
    return tuple(known.index_to_description(number) for number in range(known.num_classes()))


def list_published() -> list[str]:
    """What `published` is to say for the installed version."""
    import timm

    found = []
    for name in timm.list_models():
        config = timm.get_pretrained_cfg(name)
        plain = config is not None and not config.hf_hub_filename and not config.custom_load
        if plain and config.hf_hub_id and config.num_classes:
            found.append(name)
    return found


if __name__ == "__main__":
    print("\n".join(list_published()))
