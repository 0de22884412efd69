"""`python -m runners.framework_kit.describe FRAMEWORK`: what its manifest is and brings, as JSON."""

import base64
import json
import sys
import threading

from runners.process.spawned import framework_of

_HEAVY = (
    *("torch", "torchvision", "torchaudio", "tensorflow", "keras", "jax", "flax", "paddle", "mxnet"),
    *("ultralytics", "timm", "transformers", "diffusers", "detectron2", "mmcv", "mmdet", "lightning"),
    *("cv2", "onnxruntime", "openvino", "tensorrt", "scipy", "sklearn", "pandas", "matplotlib", "grpc"),
)


def main() -> None:
    """Read the manifest twice, and tell."""
    framework = framework_of(sys.argv[1])
    first, second = framework.manifest(), framework.manifest()
    told = {
        "name": framework.name,
        "repeats": framework.repeats,
        "manifest": base64.b64encode(first.SerializeToString()).decode(),
        "changes": first != second,
        "heavy": [name for name in _HEAVY if name in sys.modules],
        "threads": [thread.name for thread in threading.enumerate()[1:]],
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
