"""The environment variables of a job process: read, refused, and written back."""

import dataclasses
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.process.environment import JobEnvironment
from runners.process.errors import UserError
from visionmesh.v1 import job_pb2, result_pb2

TEXT = st.text(string.ascii_letters + string.digits + "-_./", min_size=1, max_size=20)
PATHS = TEXT.map(Path)
SHARE = st.floats(0, 1)

PIXELS = st.floats(0, 10_000, width=32)
PROMPTS = st.builds(
    job_pb2.Prompt,
    box=st.builds(result_pb2.BoundingBox, x_min=PIXELS, y_min=PIXELS, x_max=PIXELS, y_max=PIXELS),
    image_index=st.none() | st.integers(0, 10_000),
) | st.builds(
    job_pb2.Prompt,
    points=st.builds(
        job_pb2.PromptPoints,
        points=st.lists(
            st.builds(job_pb2.PromptPoint, x=PIXELS, y=PIXELS, background=st.booleans()),
            min_size=1,
            max_size=3,
        ),
    ),
)
ENVIRONMENTS = st.builds(
    JobEnvironment,
    kind=st.sampled_from(["train", "validate", "infer"]),
    job_id=TEXT,
    attempt=st.integers(1, 1000),
    dataset_path=st.none() | PATHS,
    checkpoint_path=st.none() | PATHS,
    image_paths=st.none() | PATHS,
    output_path=PATHS,
    model_name=st.none() | TEXT,
    task=st.sampled_from(["detect", "segment", "classify", "pose", "obb"]),
    epochs=st.integers(1, 100_000),
    batch_size=st.integers(1, 65_536),
    image_size=st.none() | st.integers(32, 8192),
    learning_rate=st.none() | st.floats(1e-9, 10),
    optimizer=st.none() | TEXT,
    patience=st.none() | st.integers(0, 1000),
    checkpoint_period=st.integers(1, 100),
    seed=st.integers(0, 2**31 - 1),
    device=st.none() | TEXT,
    cpu_threads=st.none() | st.integers(1, 1024),
    primary_metric=TEXT,
    primary_metric_mode=st.sampled_from(["max", "min"]),
    split=TEXT,
    confidence_threshold=SHARE,
    iou_threshold=SHARE,
    max_detections=st.integers(1, 10_000),
    top_k=st.integers(1, 1000),
    normalize=st.booleans(),
    save_overlays=st.booleans(),
    prompts=st.lists(PROMPTS, max_size=3).map(tuple),
    hyperparameters=st.dictionaries(TEXT, st.floats(allow_nan=False, allow_infinity=False) | st.booleans()),
    resume=st.booleans(),
    first_image_index=st.integers(0, 10_000),
    events_fd=st.none() | st.integers(0, 1000),
    commands_fd=st.none() | st.integers(0, 1000),
)


@given(ENVIRONMENTS)
def test_what_the_agent_writes_is_what_the_job_reads(environment: JobEnvironment) -> None:
    assert JobEnvironment.read(environment.to_environ()) == environment


def test_every_field_has_a_variable() -> None:
    filled = JobEnvironment(
        **{field.name: "x" for field in dataclasses.fields(JobEnvironment) if field.default is None}
    )
    assert len(filled.to_environ()) == len(dataclasses.fields(JobEnvironment))


def test_defaults_of_a_script_by_hand() -> None:
    environment = JobEnvironment.read({"KIND": "train"})
    assert environment.job_id == "local"
    assert environment.epochs == 100
    assert environment.batch_size == 16
    assert environment.output_path == Path("output/train")
    assert environment.device is None


def test_inference_has_its_own_defaults() -> None:
    environment = JobEnvironment.read({"KIND": "infer", "INFERENCE_JOB_ID": "infer-1"})
    assert environment.job_id == "infer-1"
    assert environment.batch_size == 8
    assert environment.output_path == Path("output/infer")


@pytest.mark.parametrize("task", ["detect", "detection", "object_detection", "Detect"])
def test_names_of_the_detection_task(task: str) -> None:
    assert JobEnvironment.read({"TASK": task}).task == "detect"


def test_an_empty_variable_is_as_good_as_none() -> None:
    assert JobEnvironment.read({"EPOCHS": "", "DEVICE": "  "}) == JobEnvironment.read({})


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("KIND", "paint", "one of train, validate, infer, embed, detect_faces, embed_faces"),
        ("ATTEMPT", "0", "at least 1"),
        ("EPOCHS", "0", "from 1 to 100000"),
        ("EPOCHS", "three", "a whole number"),
        ("EPOCHS", "3.5", "a whole number"),
        ("BATCH_SIZE", "-1", "from 1 to 65536"),
        ("IMAGE_SIZE", "16", "from 32 to 8192"),
        ("LEARNING_RATE", "0", "above 0"),
        ("LEARNING_RATE", "nan", "a number above 0"),
        ("PATIENCE", "-1", "at least 0"),
        ("CHECKPOINT_PERIOD", "0", "at least 1"),
        ("SEED", "4294967296", "from 0 to 2147483647"),
        ("TASK", "translate", "one of detect"),
        ("PRIMARY_METRIC_MODE", "biggest", "max, min"),
        ("CONFIDENCE_THRESHOLD", "1.5", "from 0 to 1"),
        ("IOU_THRESHOLD", "inf", "from 0 to 1"),
        ("MAX_DETECTIONS", "0", "from 1 to 10000"),
        ("TOP_K", "0", "from 1 to 1000"),
        ("SAVE_OVERLAYS", "maybe", "true or false"),
        ("SAVE_CROPS", "maybe", "true or false"),
        ("INLINE_VALUES", "maybe", "true or false"),
        ("PROMPTS", "1,2,3,4", "a JSON list of prompts such as [{"),
        ("PROMPTS", '[{"circle": {}}]', 'no field named "circle"'),
        ("HYPERPARAMETERS", "mosaic=0", "a JSON object"),
        ("HYPERPARAMETERS", "[1]", "a JSON object"),
        ("RESUME", "2", "true or false"),
        ("FIRST_IMAGE_INDEX", "-1", "at least 0"),
        ("EVENTS_FD", "x", "a whole number"),
    ],
)
def test_a_wrong_value_is_named_with_its_fix(name: str, value: str, wanted: str) -> None:
    with pytest.raises(UserError) as caught:
        JobEnvironment.read({name: value})
    assert name in str(caught.value)
    assert value in str(caught.value)
    assert wanted in str(caught.value)


def test_hyperparameters_keep_their_types() -> None:
    given_values: dict[str, Any] = {"mosaic": 0.5, "nbs": 8, "cos_lr": True, "copy_paste_mode": "flip"}
    environment = JobEnvironment(hyperparameters=given_values)
    assert JobEnvironment.read(environment.to_environ()).hyperparameters == given_values
