"""Defaults, references, and jobs against manifests."""

from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st

from scheduler.admission import check_against_manifest, references, violations_of, with_defaults
from visionmesh.errors import Reason
from visionmesh.v1 import job_pb2, runner_pb2, vision_pb2

DETECT, CLASSIFY, POSE = vision_pb2.TASK_DETECT, vision_pb2.TASK_CLASSIFY, vision_pb2.TASK_POSE
IMAGES = job_pb2.ImageSource(upload="uploads/a")
PROMPT = job_pb2.Prompt(box={"x_min": 1, "y_min": 2, "x_max": 3, "y_max": 4})


def rule(name: str, type_name: str, **fields: Any) -> runner_pb2.Hyperparameter:
    kind = runner_pb2.HyperparameterType.Value(f"HYPERPARAMETER_TYPE_{type_name}")
    return runner_pb2.Hyperparameter(name=name, type=kind, **fields)


def manifest(**fields: Any) -> runner_pb2.FrameworkManifest:
    made: dict[str, Any] = {
        "framework": "ultralytics",
        "kinds": ["train", "validate", "infer", "embed", "embed_faces"],
        "tasks": [DETECT, CLASSIFY],
        "models": [
            runner_pb2.ModelInfo(name="yolo11m", tasks=[DETECT]),
            runner_pb2.ModelInfo(name="yolo11m-cls", tasks=[CLASSIFY]),
            runner_pb2.ModelInfo(name="anything"),
            runner_pb2.ModelInfo(name="sam_b", kinds=["infer"], promptable=True),
        ],
        "hyperparameters": [
            rule("mosaic", "FLOAT", min=0, max=1, kinds=["train"]),
            rule("nbs", "INT", min=1, kinds=["train"]),
            rule("cos_lr", "BOOL", kinds=["train"]),
            rule("amp", "STRING", choices=["fp32", "bf16"], kinds=["train"]),
            rule("note", "STRING"),
            rule("extra", "UNSPECIFIED"),
            rule("augment", "BOOL", kinds=["validate", "infer"]),
        ],
    }
    return runner_pb2.FrameworkManifest(**(made | fields))


def train(**fields: Any) -> job_pb2.Job:
    return job_pb2.Job(train=job_pb2.TrainSpec(**({"dataset": "datasets/a", "model": "yolo11m"} | fields)))


def infer(**fields: Any) -> job_pb2.Job:
    return job_pb2.Job(infer=job_pb2.InferSpec(checkpoint="uploads/a", images=IMAGES, **fields))


def hyper(**values: Any) -> Struct:
    struct = Struct()
    struct.update(values)
    return struct


def found(job: job_pb2.Job, by: runner_pb2.FrameworkManifest | None = None) -> list[tuple[Reason, str, str]]:
    findings = check_against_manifest(job, by or manifest())
    return [(reason, violation.field, violation.description) for reason, violation in findings]


@pytest.mark.parametrize(
    ("job", "reason", "field", "words"),
    [
        (
            train(model="yolo11m2"),
            Reason.UNKNOWN_MODEL,
            "job.train.model",
            "no model 'yolo11m2' in ultralytics. Did you mean 'yolo11m'? Known: anything, yolo11m, yolo11m-",
        ),
        (train(model="YOLO11M"), Reason.UNKNOWN_MODEL, "job.train.model", "Did you mean 'yolo11m'?"),
        (
            train(model="zzz"),
            Reason.UNKNOWN_MODEL,
            "job.train.model",
            "'zzz' in ultralytics. Known: anything",
        ),
        (train(model=""), Reason.UNKNOWN_MODEL, "job.train.model", "name a model (such as 'yolo11m')"),
        (infer(model="yolo"), Reason.UNKNOWN_MODEL, "job.infer.model", "no model 'yolo'"),
        (train(task=POSE), Reason.UNSUPPORTED, "job.train.task", "does detect, classify, not pose"),
        (train(task=CLASSIFY), Reason.UNSUPPORTED, "job.train.task", "yolo11m does detect, not classify"),
        (
            train(model="sam_b"),
            Reason.UNKNOWN_MODEL,
            "job.train.model",
            "no model 'sam_b' in ultralytics for this: it is for infer jobs. Known: anything, yolo11m",
        ),
        (
            infer(model="yolo11m", prompts=[PROMPT]),
            Reason.UNSUPPORTED,
            "job.infer.prompts",
            "yolo11m takes no prompts: it finds what it was trained for. Choose one that does, such as",
        ),
        (
            infer(model="sam_b", prompts=[PROMPT] * 1200),
            Reason.INVALID_ARGUMENT,
            "job.infer.prompts",
            "24576 fit",
        ),
        (
            job_pb2.Job(detect_faces=job_pb2.DetectFacesSpec(images=IMAGES)),
            Reason.UNSUPPORTED,
            "job.detect_faces",
            "ultralytics does not run detect_faces jobs, but train, validate, infer",
        ),
        (
            job_pb2.Job(embed=job_pb2.EmbedSpec(images=IMAGES)),
            Reason.UNKNOWN_MODEL,
            "job.embed.model",
            "name a model",
        ),
        (
            job_pb2.Job(embed_faces=job_pb2.EmbedFacesSpec(embedding_model="x")),
            Reason.UNKNOWN_MODEL,
            "job.embed_faces.embedding_model",
            "no model 'x'",
        ),
        (
            job_pb2.Job(embed_faces=job_pb2.EmbedFacesSpec(detection={"model": "x"})),
            Reason.UNKNOWN_MODEL,
            "job.embed_faces.detection.model",
            "no model 'x'",
        ),
    ],
)
def test_what_the_framework_does_not_do(job: job_pb2.Job, reason: Reason, field: str, words: str) -> None:
    ((got_reason, got_field, description),) = found(job)
    assert (got_reason, got_field) == (reason, field)
    assert words in description


@pytest.mark.parametrize(
    ("job", "name", "reason", "words"),
    [
        (
            train(hyperparameters=hyper(mosiac=1)),
            "mosiac",
            Reason.UNKNOWN_HYPERPARAMETER,
            "no hyperparameter 'mosiac' for train. Did you mean 'mosaic'? Known: amp, cos_lr,",
        ),
        (
            train(hyperparameters=hyper(augment=True)),
            "augment",
            Reason.UNKNOWN_HYPERPARAMETER,
            "no hyperparameter 'augment' for train. It is one of infer and validate.",
        ),
        (train(hyperparameters=hyper(mosaic=1.1)), "mosaic", Reason.BAD_HYPERPARAMETER, "at most 1, got 1.1"),
        (train(hyperparameters=hyper(mosaic=-1)), "mosaic", Reason.BAD_HYPERPARAMETER, "at least 0, got -1"),
        (train(hyperparameters=hyper(mosaic="1")), "mosaic", Reason.BAD_HYPERPARAMETER, "must be a number"),
        (train(hyperparameters=hyper(mosaic=True)), "mosaic", Reason.BAD_HYPERPARAMETER, "must be a number"),
        (train(hyperparameters=hyper(mosaic=None)), "mosaic", Reason.BAD_HYPERPARAMETER, "must be a number"),
        (train(hyperparameters=hyper(mosaic=float("nan"))), "mosaic", Reason.BAD_HYPERPARAMETER, "finite"),
        (train(hyperparameters=hyper(nbs=float("inf"))), "nbs", Reason.BAD_HYPERPARAMETER, "finite"),
        (train(hyperparameters=hyper(nbs=1.5)), "nbs", Reason.BAD_HYPERPARAMETER, "whole number, got 1.5"),
        (train(hyperparameters=hyper(cos_lr=1)), "cos_lr", Reason.BAD_HYPERPARAMETER, "true or false"),
        (
            train(hyperparameters=hyper(amp="fp8")),
            "amp",
            Reason.BAD_HYPERPARAMETER,
            "one of fp32, bf16, got 'fp8'",
        ),
        (train(hyperparameters=hyper(note=1)), "note", Reason.BAD_HYPERPARAMETER, "must be text"),
        (
            train(hyperparameters=hyper(extra=[1, {"a": float("nan")}])),
            "extra",
            Reason.BAD_HYPERPARAMETER,
            "finite",
        ),
    ],
)
def test_hyperparameters_that_are_refused(job: job_pb2.Job, name: str, reason: Reason, words: str) -> None:
    ((got_reason, field, description),) = found(job)
    assert (got_reason, field) == (reason, f"job.train.hyperparameters.{name}")
    assert words in description


@pytest.mark.parametrize(
    "job",
    [
        train(),
        train(model="", checkpoint="uploads/a"),
        train(task=DETECT),
        train(model="anything", task=CLASSIFY),
        train(
            hyperparameters=hyper(
                mosaic=0, nbs=64, cos_lr=False, amp="bf16", note="x", extra=[1, {"a": None}]
            )
        ),
        infer(hyperparameters=hyper(augment=True)),
        infer(model="sam_b", prompts=[PROMPT]),
        infer(prompts=[PROMPT]),
        job_pb2.Job(embed_faces=job_pb2.EmbedFacesSpec(detection={"images": IMAGES})),
    ],
)
def test_what_the_framework_takes(job: job_pb2.Job) -> None:
    assert found(job) == []


def test_everything_that_is_wrong_is_found_together() -> None:
    job = train(model="x", task=POSE, hyperparameters=hyper(mosaic=2, zzz=1))
    assert {field for _, field, _ in found(job)} == {
        "job.train.model",
        "job.train.task",
        "job.train.hyperparameters.mosaic",
        "job.train.hyperparameters.zzz",
    }


def test_more_gpus_than_a_job_can_use_are_refused() -> None:
    two = job_pb2.Resources(gpus=2)
    several = job_pb2.Job(resources=two, train=train(device="cuda:0,1").train)
    assert found(several, manifest(max_gpus=2)) == []
    assert found(several, manifest()) == []
    refused = found(several, manifest(max_gpus=1))
    assert [field for _, field, _ in refused] == ["job.resources.gpus", "job.train.device"]
    assert refused[0][0] == Reason.UNSUPPORTED
    assert "ultralytics uses at most 1 for a job of this kind, and 2 are asked for" in refused[0][2]
    looking = job_pb2.Job(resources=two, infer=infer().infer)
    assert [field for _, field, _ in found(looking, manifest(max_gpus=2))] == ["job.resources.gpus"]


def test_a_manifest_that_says_little_refuses_little() -> None:
    bare = runner_pb2.FrameworkManifest(framework="bare", kinds=["train"])
    assert found(train(model="", checkpoint="uploads/a", task=POSE), bare) == []
    ((_, _, text),) = found(train(hyperparameters=hyper(x=1), model="", checkpoint="uploads/a"), bare)
    assert text == "there is no hyperparameter 'x' for train. It knows none."
    ((_, _, text),) = found(train(model=""), bare)
    assert text == "name a model or a checkpoint to start from"


def test_prompts_need_a_model_that_takes_them() -> None:
    plain = manifest(models=[runner_pb2.ModelInfo(name="yolo11m", tasks=[DETECT])])
    ((reason, field, text),) = found(infer(prompts=[PROMPT]), plain)
    assert (reason, field) == (Reason.UNSUPPORTED, "job.infer.prompts")
    assert text == "no model of ultralytics takes prompts. Leave them out, or choose another framework."


def test_of_many_models_those_are_told_that_are_spelt_most_alike() -> None:
    many = manifest(models=[runner_pb2.ModelInfo(name=f"model{number:02}") for number in range(20)])
    ((_, _, text),) = found(train(model="model1"), many)
    assert text.endswith(
        "Known: model01, model10, model11, model12, model13, model14, model15, "
        "model16, model17, model18, model19, model00, and 8 more."
    )


def test_defaults_of_a_training() -> None:
    job = with_defaults(
        job_pb2.Job(train=job_pb2.TrainSpec(dataset="datasets/a", model="yolo11m")), manifest()
    )
    assert (job.framework, job.priority) == ("ultralytics", 5)
    policy = job.retry_policy
    assert (policy.max_attempts, policy.multiplier) == (3, 2)
    assert (policy.initial_backoff.seconds, policy.max_backoff.seconds) == (5, 300)
    spec = job.train
    assert (spec.epochs, spec.batch_size, spec.checkpoint_period, spec.task) == (100, 16, 1, DETECT)
    assert spec.HasField("seed")
    assert spec.seed == 0
    assert (spec.primary_metric, spec.primary_metric_mode) == ("mAP50-95", vision_pb2.METRIC_MODE_MAX)
    for left_to_the_framework in ("image_size", "learning_rate", "patience"):
        assert not spec.HasField(left_to_the_framework)
    assert not job.HasField("run_timeout")
    assert not job.HasField("queue_timeout")


def test_defaults_of_a_validation_and_an_inference() -> None:
    validate = with_defaults(job_pb2.Job(validate=job_pb2.ValidateSpec())).validate
    assert (validate.split, validate.batch_size, validate.max_detections) == ("val", 16, 100)
    assert (validate.confidence_threshold, validate.iou_threshold) == (0.25, 0.45)
    made = with_defaults(infer()).infer
    assert (made.batch_size, made.max_detections, made.top_k) == (8, 100, 5)
    assert (made.confidence_threshold, made.iou_threshold, made.save_overlays) == (0.25, 0.45, False)


def test_defaults_of_embeddings_and_faces() -> None:
    embed = with_defaults(job_pb2.Job(embed=job_pb2.EmbedSpec())).embed
    assert (embed.normalize, embed.batch_size) == (True, 8)
    faces = with_defaults(job_pb2.Job(detect_faces=job_pb2.DetectFacesSpec())).detect_faces
    assert (faces.confidence_threshold, faces.max_faces) == (0.25, 100)
    both = with_defaults(job_pb2.Job(embed_faces=job_pb2.EmbedFacesSpec())).embed_faces
    assert (both.normalize, both.detection.max_faces) == (True, 100)
    assert (faces.save_crops, both.detection.save_crops) == (True, True)


@pytest.mark.parametrize(
    ("spec", "framework"),
    [
        ({"train": job_pb2.TrainSpec()}, "ultralytics"),
        ({"infer": job_pb2.InferSpec()}, "ultralytics"),
        ({"embed": job_pb2.EmbedSpec()}, "timm"),
        ({"detect_faces": job_pb2.DetectFacesSpec()}, "faces"),
        ({"embed_faces": job_pb2.EmbedFacesSpec()}, "faces"),
    ],
)
def test_each_kind_has_a_framework_where_none_is_named(spec: dict[str, Any], framework: str) -> None:
    assert with_defaults(job_pb2.Job(**spec)).framework == framework
    assert with_defaults(job_pb2.Job(framework="mine", **spec)).framework == "mine"


def test_faces_are_looked_for_by_detectors_and_embedded_by_embedders() -> None:
    known = manifest(
        kinds=["detect_faces", "embed_faces"],
        models=[
            runner_pb2.ModelInfo(name="haar", kinds=["detect_faces", "embed_faces"]),
            runner_pb2.ModelInfo(name="sface", kinds=["embed_faces"]),
        ],
        hyperparameters=[rule("min_size", "INT", min=10)],
    )
    spec = job_pb2.EmbedFacesSpec(detection={"model": "haar"}, embedding_model="sface")
    assert found(job_pb2.Job(embed_faces=spec), known) == []
    detect = job_pb2.DetectFacesSpec(model="sface", images=IMAGES)
    ((reason, field, text),) = found(job_pb2.Job(detect_faces=detect), known)
    assert (reason, field) == (Reason.UNKNOWN_MODEL, "job.detect_faces.model")
    assert text.endswith("Known: haar.")
    spec = job_pb2.EmbedFacesSpec(
        detection={"model": "sface", "hyperparameters": hyper(min_size=1)}, embedding_model="haar"
    )
    assert [(reason, field) for reason, field, _ in found(job_pb2.Job(embed_faces=spec), known)] == [
        (Reason.UNKNOWN_MODEL, "job.embed_faces.detection.model"),
        (Reason.UNKNOWN_MODEL, "job.embed_faces.embedding_model"),
        (Reason.BAD_HYPERPARAMETER, "job.embed_faces.detection.hyperparameters.min_size"),
    ]


@pytest.mark.parametrize(
    ("model", "framework", "known", "task", "metric"),
    [
        ("yolo11m", "", None, vision_pb2.TASK_UNSPECIFIED, ""),
        ("yolo11m", "", manifest(), DETECT, "mAP50-95"),
        ("yolo11m-cls", "", manifest(), CLASSIFY, "accuracy_top1"),
        ("unknown", "", manifest(tasks=[CLASSIFY]), CLASSIFY, "accuracy_top1"),
        ("", "", manifest(), vision_pb2.TASK_UNSPECIFIED, ""),
        ("", "timm", manifest(tasks=[CLASSIFY]), CLASSIFY, "accuracy_top1"),
        ("resnet18", "timm", None, vision_pb2.TASK_UNSPECIFIED, ""),
    ],
)
def test_the_task_is_what_the_model_is_made_for(
    model: str,
    framework: str,
    known: runner_pb2.FrameworkManifest | None,
    task: int,
    metric: str,
) -> None:
    job = train(model=model)
    job.framework = framework
    spec = with_defaults(job, known).train
    assert (spec.task, spec.primary_metric) == (task, metric)


def test_what_was_said_stays_as_it_was_said() -> None:
    said = train(
        epochs=1,
        batch_size=2,
        checkpoint_period=3,
        seed=4,
        task=CLASSIFY,
        primary_metric="val_loss",
        primary_metric_mode=vision_pb2.METRIC_MODE_MIN,
    )
    said.framework, said.priority = "timm", 0
    said.retry_policy.max_attempts = 1
    said.retry_policy.initial_backoff.FromSeconds(0)
    said.retry_policy.max_backoff.FromSeconds(1)
    said.retry_policy.multiplier = 1
    before = said.SerializeToString(deterministic=True)
    assert with_defaults(said) == said
    assert said.SerializeToString(deterministic=True) == before
    zero = with_defaults(infer(confidence_threshold=0.0, iou_threshold=0.0)).infer
    assert (zero.confidence_threshold, zero.iou_threshold) == (0, 0)


def test_the_job_that_was_given_is_not_changed() -> None:
    given = train()
    assert with_defaults(given) != given
    assert given == train()


SPECS = st.sampled_from(
    [
        train(),
        job_pb2.Job(validate=job_pb2.ValidateSpec(dataset="datasets/a", checkpoint="uploads/a")),
        infer(),
        job_pb2.Job(embed=job_pb2.EmbedSpec(images=IMAGES)),
        job_pb2.Job(detect_faces=job_pb2.DetectFacesSpec(images=IMAGES)),
        job_pb2.Job(embed_faces=job_pb2.EmbedFacesSpec(detection={"images": IMAGES})),
    ]
)


@given(SPECS, st.none() | st.integers(0, 10), st.booleans())
def test_defaults_are_valid_and_filled_in_once(job: job_pb2.Job, priority: int | None, known: bool) -> None:
    made = job_pb2.Job()
    made.CopyFrom(job)
    if priority is not None:
        made.priority = priority
    filled = with_defaults(made, manifest() if known else None)
    assert violations_of(job_pb2.CreateJobRequest(job=filled)) == []
    assert with_defaults(filled, manifest() if known else None) == filled
    assert filled.WhichOneof("spec") == job.WhichOneof("spec")


@pytest.mark.parametrize(
    ("job", "jobs"),
    [
        (job_pb2.Job(), ()),
        (train(), ()),
        (train(checkpoint="uploads/a"), ()),
        (train(checkpoint="file:///store/jobs/a/artifacts/best"), ()),
        (train(checkpoint="jobs/a/artifacts/best"), ("jobs/a",)),
        (train(checkpoint="jobs/a/artifacts/deep/er/last.pt"), ("jobs/a",)),
        (train(checkpoint="jobs/a"), ()),
        (job_pb2.Job(validate=job_pb2.ValidateSpec(checkpoint="jobs/b/artifacts/best")), ("jobs/b",)),
        (job_pb2.Job(infer=job_pb2.InferSpec(checkpoint="jobs/b/artifacts/last")), ("jobs/b",)),
        (job_pb2.Job(embed=job_pb2.EmbedSpec(checkpoint="jobs/b/artifacts/best")), ("jobs/b",)),
        (job_pb2.Job(detect_faces=job_pb2.DetectFacesSpec(checkpoint="jobs/b/artifacts/x")), ("jobs/b",)),
        (
            job_pb2.Job(
                embed_faces=job_pb2.EmbedFacesSpec(
                    detection={"checkpoint": "jobs/z/artifacts/best"},
                    embedding_checkpoint="jobs/b/artifacts/best",
                )
            ),
            ("jobs/b", "jobs/z"),
        ),
    ],
)
def test_the_jobs_whose_artifacts_a_spec_reads(job: job_pb2.Job, jobs: tuple[str, ...]) -> None:
    assert references(job).jobs == jobs


def published(*, fetches: bool) -> runner_pb2.FrameworkManifest:
    models = [runner_pb2.ModelInfo(name="known", pretrained=True), runner_pb2.ModelInfo(name="unknown")]
    kinds = ["train", "validate", "infer", "embed"]
    return runner_pb2.FrameworkManifest(
        framework="ultralytics", kinds=kinds, models=models, fetches_pretrained=fetches
    )


@pytest.mark.parametrize(
    ("model", "fetches", "words"),
    [
        ("known", True, ""),
        ("known", False, "runs offline here and does not fetch what the makers of known have published"),
        ("unknown", True, "the makers of unknown have published no weights for it. Name a checkpoint"),
    ],
)
@pytest.mark.parametrize("kind", ["train", "validate", "infer", "embed"])
def test_published_weights_must_exist_and_be_allowed(
    kind: str, model: str, fetches: bool, words: str
) -> None:
    spec = {"model": model, **({"pretrained": True} if kind == "train" else {})}
    refused = found(job_pb2.Job(**{kind: spec}), published(fetches=fetches))
    assert [reason for reason, _, _ in refused] == ([Reason.PRETRAINED_UNAVAILABLE] if words else [])
    assert all(words in description for _, _, description in refused)
    spec["checkpoint"] = "uploads/a"
    del spec["model"]
    spec.pop("pretrained", None)
    assert found(job_pb2.Job(**{kind: spec}), published(fetches=False)) == []
