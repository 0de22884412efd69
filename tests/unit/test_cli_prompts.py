"""Prompts as they are written on a command line."""

import pytest
import typer

from visionmesh.cli import _specs, _values
from visionmesh.cli._submit_options import InferOptions
from visionmesh.v1 import job_pb2, result_pb2


def points(*places: tuple[float, float, bool]) -> job_pb2.PromptPoints:
    return job_pb2.PromptPoints(points=[job_pb2.PromptPoint(x=x, y=y, background=b) for x, y, b in places])


def test_a_box() -> None:
    box = result_pb2.BoundingBox(x_min=10, y_min=20.5, x_max=90, y_max=80)
    assert _values.box_prompt("10, 20.5,90,80") == job_pb2.Prompt(box=box)
    assert _values.box_prompt("10,20.5,90,80@0") == job_pb2.Prompt(box=box, image_index=0)


def test_points() -> None:
    assert _values.point_prompt("5,6") == job_pb2.Prompt(points=points((5, 6, False)))
    several = points((5, 6, False), (7.5, 8, False), (1, 2, True))
    assert _values.point_prompt("5,6; 7.5,8 ;!1,2@3") == job_pb2.Prompt(points=several, image_index=3)


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (_values.box_prompt, "1,2,3"),
        (_values.box_prompt, "1,2,3,4;5,6,7,8"),
        (_values.box_prompt, "a,b,c,d"),
        (_values.box_prompt, "1,2,3,4@"),
        (_values.point_prompt, "1"),
        (_values.point_prompt, "1,2,3"),
        (_values.point_prompt, ""),
        (_values.point_prompt, "1,2@first"),
    ],
)
def test_what_cannot_be_read_is_named(read, text: str) -> None:
    with pytest.raises(typer.BadParameter) as caught:
        read(text)
    assert repr(text) in str(caught.value)


def test_boxes_come_before_points() -> None:
    options = InferOptions(prompt_box=["1,2,3,4"], prompt_point=["5,6", "7,8"])
    spec = _specs.infer_spec(options, job_pb2.ImageSource(), "")
    assert [prompt.WhichOneof("prompt") for prompt in spec.prompts] == ["box", "points", "points"]
