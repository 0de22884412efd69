"""The same dataset in another layout."""

import json
from pathlib import Path
from typing import Any

from visionmesh.datasets import yolo


def as_coco(source: Path, target: Path, size: int) -> Path:
    """The YOLO dataset `source`, its square images of `size` pixels, as COCO."""
    report = yolo.check_folder(source)
    for split in report.splits:
        listed: dict[str, Any] = {"images": [], "annotations": []}
        listed["categories"] = [{"id": n + 1, "name": name} for n, name in enumerate(report.class_names)]
        (target / "images" / split.name).mkdir(parents=True)
        for number, (image, inner, labels) in enumerate(yolo.labelled_images(source, split.name), start=1):
            (target / "images" / split.name / inner).write_bytes(image.read_bytes())
            listed["images"].append({"id": number, "file_name": inner, "width": size, "height": size})
            for line in (labels or "").splitlines():
                class_id, *box = line.split()
                x, y, width, height = (float(value) * size for value in box)
                annotation = {"id": len(listed["annotations"]) + 1, "image_id": number}
                annotation |= {"category_id": int(class_id) + 1}
                annotation |= {"bbox": [x - width / 2, y - height / 2, width, height]}
                listed["annotations"].append(annotation)
        (target / "annotations").mkdir(exist_ok=True)
        (target / "annotations" / f"instances_{split.name}.json").write_text(json.dumps(listed))
    return target
