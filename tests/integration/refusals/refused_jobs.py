"""What is refused of jobs: as they are created, and of the verbs that come afterwards."""

import math

from google.protobuf.duration_pb2 import Duration
from refusal_world import (
    Table,
    bad,
    gone,
    infer,
    infer_on,
    job,
    rpc,
    settings,
    taken,
    too_much,
    train,
    wrong_state,
)

from visionmesh.errors import Reason
from visionmesh.v1 import dataset_pb2, job_pb2, runner_pb2, vision_pb2

_BAD, _RULE = Reason.INVALID_ARGUMENT, Reason.BAD_HYPERPARAMETER


def hyper(**values):
    return job(lambda w: train(w.dataset, hyperparameters=settings(**values)))


def same_again(service, method, first, second, then=None):
    """The same request_id with other content."""

    async def ask(world):
        for name, make in ((method, first), (then or method, second)):
            await world.mesh.call(getattr(getattr(world.mesh, service), name), make(world))

    return ask


def create(request_id, **fields):
    return lambda w: job_pb2.CreateJobRequest(job=train(w.dataset, **fields), request_id=request_id)


def from_uri(make):
    """An inference whose checkpoint is a URI."""
    return job(lambda w: infer(make(w), w.dataset))


def images(make):
    """An inference on images at URIs."""
    return job(lambda w: infer_on(f"{w.running}/artifacts/best", uris=job_pb2.ImageUris(uris=[make(w)])))


OUTSIDE = "a URI inside the configured stores. Upload the file"

CREATED: Table = {
    "unknown model": bad(
        job(lambda w: train(w.dataset, model="yolo11nn")),
        Reason.UNKNOWN_MODEL, "job.train.model", "no model 'yolo11nn'", "Did you mean 'yolo11n'",
    ),
    "neither model nor checkpoint": bad(
        job(lambda w: train(w.dataset, model="")),
        Reason.UNKNOWN_MODEL, "job.train.model", "name a model", "or a checkpoint to start from",
    ),
    "published weights where runners are offline": bad(
        job(lambda w: train(w.dataset, pretrained=True)),
        Reason.PRETRAINED_UNAVAILABLE, "job.train.pretrained", "runs offline here",
        "or leave out pretrained: random weights; or start a runner with --pretrained",
    ),
    "published weights and a checkpoint": bad(
        job(lambda w: train(w.dataset, pretrained=True, checkpoint=f"{w.running}/artifacts/best")),
        _BAD, "job.train.pretrained", "starts from the checkpoint", "Leave out one of the two",
    ),
    "inference without weights": bad(
        job(lambda w: infer("", w.dataset)),
        Reason.CHECKPOINT_NOT_FOUND, "job.infer.checkpoint", "name the weights",
        "a checkpoint such as jobs/{job}/artifacts/best",
    ),
    "task of another model": bad(
        job(lambda w: train(w.dataset, task=vision_pb2.TASK_POSE)),
        Reason.UNSUPPORTED, "job.train.task", "not pose", "does detect",
    ),
    "kind that the framework does not run": bad(
        job(lambda w: job_pb2.Job(
            framework="ultralytics",
            detect_faces=job_pb2.DetectFacesSpec(images=infer("x", w.dataset).infer.images),
        )),
        Reason.UNSUPPORTED, "job.detect_faces", "does not run detect_faces jobs", "Choose another framework",
    ),
    "vectors of faces without weights": bad(
        job(lambda w: job_pb2.Job(
            embed_faces=job_pb2.EmbedFacesSpec(detection={"images": infer("x", w.dataset).infer.images}),
        )),
        Reason.CHECKPOINT_NOT_FOUND, "job.embed_faces.embedding_checkpoint",
        "name what turns a face into a vector", "Vectors of random weights say nothing",
    ),
    "vectors of faces with absent weights": bad(
        job(lambda w: job_pb2.Job(
            embed_faces=job_pb2.EmbedFacesSpec(
                detection={"images": infer("x", w.dataset).infer.images}, embedding_checkpoint="uploads/none",
            ),
        )),
        Reason.NOT_FOUND, "job.embed_faces.embedding_checkpoint", "no upload 'uploads/none'",
        "Upload the file first",
    ),
    "absent dataset": bad(
        job(lambda w: train("datasets/nowhere")),
        Reason.DATASET_NOT_FOUND, "job.train.dataset", "'datasets/nowhere'", "The newest are datasets/",
    ),
    "malformed dataset name": bad(
        job(lambda w: train("nowhere")),
        _BAD, "job.train.dataset", "got 'nowhere'", "must have the form datasets/{dataset}",
    ),
    "dataset name that leads out": bad(
        job(lambda w: train("datasets/../../etc")),
        _BAD, "job.train.dataset", "got 'datasets/../../etc'", "must have the form datasets/{dataset}",
    ),
    "dataset without labels": bad(
        job(lambda w: train(w.unlabelled)),
        Reason.DATASET_UNLABELLED, "job.train.dataset", "no labelled object",
        "Add labels to that split",
    ),
    "validation on a split without labels": bad(
        job(lambda w: job_pb2.Job(validate=job_pb2.ValidateSpec(
            dataset=w.dataset, split="extra", checkpoint=f"{w.running}/artifacts/best"))),
        Reason.DATASET_UNLABELLED, "job.validate.dataset", "split 'extra'",
        "Add labels to that split",
    ),
    "detector on class folders": bad(
        job(lambda w: train(w.pictures)),
        Reason.DATASET_UNLABELLED, "job.train.dataset", "labelled for classify, and the job is to detect",
        "Name a dataset for detect",
    ),
    "epochs 0": bad(
        job(lambda w: train(w.dataset, epochs=0)), _BAD, "job.train.epochs", "got 0", "must be between 1 and",
    ),
    "epochs negative": bad(
        job(lambda w: train(w.dataset, epochs=-3)), _BAD, "job.train.epochs", "got -3",
        "must be between 1 and",
    ),
    "batch size negative": bad(
        job(lambda w: train(w.dataset, batch_size=-1)), _BAD, "job.train.batch_size", "got -1",
        "must be between",
    ),
    "image size out of range": bad(
        job(lambda w: train(w.dataset, image_size=10**6)), _BAD, "job.train.image_size", "got 1000000",
        "must be between",
    ),
    "priority 11": bad(
        job(lambda w: job_pb2.Job(priority=11, train=train(w.dataset).train)),
        _BAD, "job.priority", "got 11", "must be between 0 and 10",
    ),
    "negative timeout": bad(
        job(lambda w: job_pb2.Job(run_timeout=Duration(seconds=-1), train=train(w.dataset).train)),
        _BAD, "job.run_timeout", "must be greater than", "0.001s",
    ),
    "confidence threshold above 1": bad(
        job(lambda w: job_pb2.Job(infer=job_pb2.InferSpec(
            confidence_threshold=1.5, checkpoint="uploads/x", images=infer("x", w.dataset).infer.images))),
        _BAD, "job.infer.confidence_threshold", "got 1.5", "must be between 0 and 1",
    ),
    "NaN for a learning rate": bad(
        job(lambda w: train(w.dataset, learning_rate=math.nan)),
        _BAD, "job.train.learning_rate", "got nan", "must be greater than",
    ),
    "infinite learning rate": bad(
        job(lambda w: train(w.dataset, learning_rate=math.inf)),
        _BAD, "job.train.learning_rate", "got inf", "must be greater than",
    ),
    "enum of nobody": bad(
        job(lambda w: train(w.dataset, task=99)), _BAD, "job.train.task", "got 99",
        "must be one of TASK_DETECT",
    ),
    "device of nobody": bad(
        job(lambda w: train(w.dataset, device="gpu0")), _BAD, "job.train.device", "got 'gpu0'",
        'such as "cuda:0,1"',
    ),
    "label key in capitals": bad(
        job(lambda w: job_pb2.Job(labels={"Team": "x"}, train=train(w.dataset).train)),
        _BAD, 'job.labels["Team"]', "got 'Team'", "must be 1 to 63 of a-z",
    ),
    "unknown hyperparameter": bad(
        hyper(mosaik=1),
        Reason.UNKNOWN_HYPERPARAMETER, "job.train.hyperparameters.mosaik", "no hyperparameter",
        "Did you mean 'mosaic'",
    ),
    "hyperparameter of another kind of job": bad(
        hyper(agnostic_nms=True),
        Reason.UNKNOWN_HYPERPARAMETER, "job.train.hyperparameters.agnostic_nms", "no hyperparameter",
        "It is one of",
    ),
    "hyperparameter out of range": bad(
        hyper(lr0=1.5), _RULE, "job.train.hyperparameters.lr0", "got 1.5", "must be at most 1",
    ),
    "hyperparameter NaN": bad(
        hyper(lr0=math.nan), _RULE, "job.train.hyperparameters.lr0", "not NaN", "must be a finite number",
    ),
    "hyperparameter NaN in a list": bad(
        hyper(lr0=[0.1, math.nan]), _RULE, "job.train.hyperparameters.lr0", "not NaN",
        "must be a finite number",
    ),
    "hyperparameter negative": bad(
        hyper(lr0=-0.1), _RULE, "job.train.hyperparameters.lr0", "got -0.1", "must be at least",
    ),
    "hyperparameter of the wrong type": bad(
        hyper(lr0="much"), _RULE, "job.train.hyperparameters.lr0", "got 'much'", "must be a number",
    ),
    "part of a whole number": bad(
        hyper(nbs=1.5), _RULE, "job.train.hyperparameters.nbs", "got 1.5", "must be a whole number",
    ),
    "choice that is none": bad(
        hyper(amp="fp8"), _RULE, "job.train.hyperparameters.amp", "got 'fp8'", "must be one of fp32, bf16",
    ),
    "no spec": bad(
        job(lambda w: job_pb2.Job(display_name="nothing to do")),
        _BAD, "job.spec", "set exactly one of", "train, validate, infer",
    ),
    "no job": bad(
        rpc("jobs", "CreateJob", lambda w: job_pb2.CreateJobRequest()), _BAD, "job", "job:", "required",
    ),
    "dependency that does not exist": bad(
        job(lambda w: job_pb2.Job(depends_on=["jobs/absent"], train=train(w.dataset).train)),
        Reason.DEPENDENCY_NOT_FOUND, "job.depends_on", "no job 'jobs/absent'", "List what there is",
    ),
    "job above its limit": too_much(
        job(lambda w: job_pb2.Job(runner_selector={"place": "x" * 2**21}, train=train(w.dataset).train)),
        Reason.MESSAGE_TOO_LARGE, "job", "The job takes", "at most 2097152 are taken",
    ),
    "request above the limit": too_much(
        job(lambda w: job_pb2.Job(runner_selector={"place": "x" * 2**25}, train=train(w.dataset).train)),
        Reason.MESSAGE_TOO_LARGE, "", "The request takes", "upload files instead",
    ),
    "request_id with another job": taken(
        same_again("jobs", "CreateJob", create("used", epochs=1), create("used", epochs=2)),
        Reason.REQUEST_ID_REUSED, "", "'used'", "new request_id",
    ),
}  # fmt: skip

INPUTS: Table = {
    "checkpoint of an absent job": bad(
        from_uri(lambda w: "jobs/absent/artifacts/best"),
        Reason.CHECKPOINT_NOT_FOUND, "job.infer.checkpoint", "no job 'jobs/absent'", "List what there is",
    ),
    "artifact that a finished job does not have": bad(
        from_uri(lambda w: f"{w.finished}/artifacts/best"),
        Reason.CHECKPOINT_NOT_FOUND, "job.infer.checkpoint", "has no artifact 'best'", "list what a job has",
    ),
    "artifact that a running job will never have": bad(
        from_uri(lambda w: f"{w.running}/artifacts/worst"),
        Reason.CHECKPOINT_NOT_FOUND, "job.infer.checkpoint", "'worst'", "leaves artifacts 'best' and 'last'",
    ),
    "absent upload": bad(
        from_uri(lambda w: "uploads/absent"),
        Reason.NOT_FOUND, "job.infer.checkpoint", "no upload 'uploads/absent'", "Upload the file first",
    ),
    "absent object in the store": bad(
        from_uri(lambda w: f"file://{w.mesh.folder}/artifacts/none.pt"),
        Reason.CHECKPOINT_NOT_FOUND, "job.infer.checkpoint", "none.pt'",
        "upload the file and name the upload",
    ),
    "file of the scheduler's machine": bad(
        from_uri(lambda w: "file:///etc/passwd"), Reason.BAD_URI, "job.infer.checkpoint",
        "'file:///etc/passwd'", OUTSIDE,
    ),
    "database of the scheduler": bad(
        from_uri(lambda w: f"file://{w.mesh.folder}/visionmesh.db"),
        Reason.BAD_URI, "job.infer.checkpoint", "visionmesh.db", OUTSIDE,
    ),
    "foreign host": bad(
        from_uri(lambda w: "https://example.com/best.pt"), Reason.BAD_URI, "job.infer.checkpoint",
        "example.com", OUTSIDE,
    ),
    "private address": bad(
        from_uri(lambda w: "http://169.254.169.254/latest/meta-data"),
        Reason.BAD_URI, "job.infer.checkpoint", "169.254.169.254", OUTSIDE,
    ),
    "foreign bucket": bad(
        from_uri(lambda w: "s3://somebody/best.pt"), Reason.BAD_URI, "job.infer.checkpoint",
        "s3://somebody", OUTSIDE,
    ),
    "images at a private address": bad(
        images(lambda w: "http://127.0.0.1:8000/a.jpg"), Reason.BAD_URI, "job.infer.images.uris.uris",
        "127.0.0.1", OUTSIDE,
    ),
    "images of the scheduler's machine": bad(
        images(lambda w: "file:///home/"), Reason.BAD_URI, "job.infer.images.uris.uris", "file:///home",
        OUTSIDE,
    ),
    "URI that leads out of the store": bad(
        from_uri(lambda w: f"file://{w.mesh.folder}/artifacts/../visionmesh.db"),
        Reason.BAD_URI, "job.infer.checkpoint", "'..'", "or upload it",
    ),
    "URI that leads out of the store, escaped": bad(
        from_uri(lambda w: f"file://{w.mesh.folder}/artifacts/%2e%2e/visionmesh.db"),
        Reason.BAD_URI, "job.infer.checkpoint", "'..'", "or upload it",
    ),
    "URI with NUL": bad(
        from_uri(lambda w: f"file://{w.mesh.folder}/artifacts/a%00.pt"),
        Reason.BAD_URI, "job.infer.checkpoint", "control character", "or upload it",
    ),
    "URI with a backslash": bad(
        from_uri(lambda w: f"file://{w.mesh.folder}/artifacts/..%5c..%5cvisionmesh.db"),
        Reason.BAD_URI, "job.infer.checkpoint", "backslash", "or upload it",
    ),
    "URI of what the store keeps for itself": bad(
        from_uri(lambda w: f"file://{w.mesh.folder}/artifacts/.digests/x"),
        Reason.BAD_URI, "job.infer.checkpoint", "keeps for itself", "or upload it",
    ),
    "images that are not there": bad(
        images(lambda w: f"file://{w.mesh.folder}/datasets/none/"),
        Reason.IMAGES_NOT_FOUND, "job.infer.images.uris.uris", "no image at", "Images are files that end in",
    ),
    "dataset of images that is absent": bad(
        job(lambda w: infer(f"{w.running}/artifacts/best", "datasets/nowhere")),
        Reason.DATASET_NOT_FOUND, "job.infer.images.dataset_images.dataset", "'datasets/nowhere'",
        "The newest are",
    ),
    "split that the dataset does not have": bad(
        job(lambda w: infer(f"{w.running}/artifacts/best", w.dataset, "extra")),
        Reason.IMAGES_NOT_FOUND, "job.infer.images.dataset_images.split", "no split 'extra'",
        "Choose one of train, val, test",
    ),
    "absent upload of images": bad(
        job(lambda w: infer_on(f"{w.running}/artifacts/best", upload="uploads/absent")),
        Reason.NOT_FOUND, "job.infer.images.upload", "no upload 'uploads/absent'", "Upload the file first",
    ),
    "images of a media store": bad(
        job(lambda w: infer_on(f"{w.running}/artifacts/best",
        media_store=job_pb2.MediaStoreImages(ids=["1"]))),
        Reason.UNSUPPORTED, "job.infer.images.media_store", "no media store",
        "Give uris, an upload or dataset_images",
    ),
}  # fmt: skip

VERBS: Table = {
    "cancel of a finished job": wrong_state(
        rpc("jobs", "CancelJob", lambda w: job_pb2.CancelJobRequest(name=w.finished)),
        Reason.JOB_ALREADY_ENDED, "", "SUCCEEDED already", "To run it again, retry it",
    ),
    "negative grace period": bad(
        rpc("jobs", "CancelJob", lambda w: job_pb2.CancelJobRequest(
            name=w.running, grace_period=Duration(seconds=-1))),
        _BAD, "grace_period", "must be", "0s",
    ),
    "retry of a running job": wrong_state(
        rpc("jobs", "RetryJob", lambda w: job_pb2.RetryJobRequest(name=w.running)),
        Reason.JOB_NOT_ENDED, "", "has not ended", "Cancel it first",
    ),
    "delete of a running job": wrong_state(
        rpc("jobs", "DeleteJob", lambda w: job_pb2.DeleteJobRequest(name=w.running)),
        Reason.JOB_NOT_ENDED, "", "is RUNNING", "Cancel it first",
    ),
    "request_id of a retry, of another job": taken(
        same_again(
            "jobs", "RetryJob",
            lambda w: job_pb2.RetryJobRequest(name=w.finished, request_id="retried"),
            lambda w: job_pb2.CreateJobRequest(job=train(w.dataset), request_id="retried"),
            then="CreateJob",
        ),
        Reason.REQUEST_ID_REUSED, "", "'retried'", "new request_id",
    ),
    "delete of a dataset in use": wrong_state(
        rpc("datasets", "DeleteDataset", lambda w: dataset_pb2.DeleteDatasetRequest(name=w.dataset)),
        Reason.DATASET_IN_USE, "", "is used by jobs/", "Cancel that job, or wait for it",
    ),
    "get of an absent job": gone(
        rpc("jobs", "GetJob", lambda w: job_pb2.GetJobRequest(name="jobs/absent")), "no job 'jobs/absent'",
    ),
    "cancel of an absent job": gone(
        rpc("jobs", "CancelJob", lambda w: job_pb2.CancelJobRequest(name="jobs/absent")),
        "no job 'jobs/absent'",
    ),
    "retry of an absent job": gone(
        rpc("jobs", "RetryJob", lambda w: job_pb2.RetryJobRequest(name="jobs/absent")),
        "no job 'jobs/absent'",
    ),
    "delete of an absent job": gone(
        rpc("jobs", "DeleteJob", lambda w: job_pb2.DeleteJobRequest(name="jobs/absent")),
        "no job 'jobs/absent'",
    ),
    "explanation of an absent job": gone(
        rpc("jobs", "ExplainJob", lambda w: job_pb2.ExplainJobRequest(name="jobs/absent")),
        "no job 'jobs/absent'",
    ),
    "get of an absent runner": gone(
        rpc("runners", "GetRunner", lambda w: runner_pb2.GetRunnerRequest(name="runners/absent")),
        "no runner 'runners/absent'",
    ),
    "drain of an absent runner": gone(
        rpc("runners", "DrainRunner", lambda w: runner_pb2.DrainRunnerRequest(name="runners/absent")),
        "no runner 'runners/absent'",
    ),
    "undrain of an absent runner": gone(
        rpc("runners", "UndrainRunner", lambda w: runner_pb2.UndrainRunnerRequest(name="runners/absent")),
        "no runner 'runners/absent'",
    ),
    "malformed job name": bad(
        rpc("jobs", "GetJob", lambda w: job_pb2.GetJobRequest(name="job/1")),
        _BAD, "name", "got 'job/1'", "must have the form jobs/{job}",
    ),
    "job name with NUL": bad(
        rpc("jobs", "GetJob", lambda w: job_pb2.GetJobRequest(name="jobs/a\0b")),
        _BAD, "name", "got 'jobs/a", "must have the form jobs/{job}",
    ),
    "malformed runner name": bad(
        rpc("runners", "DrainRunner", lambda w: runner_pb2.DrainRunnerRequest(name="runners/../x")),
        _BAD, "name", "got 'runners/../x'", "must have the form runners/{runner}",
    ),
}  # fmt: skip
