"""Jobs that use the weights that the makers of a model have published.

The scheduler gives them to runners that are allowed to fetch those; the runner's agent fetches them.
"""

from visionmesh.v1 import job_pb2

KINDS = ("train", "validate", "infer", "embed")
"""Kinds of jobs that can."""


def uses_published_weights(job: job_pb2.Job) -> bool:
    """Whether `job` starts from, or works with, published weights: it names no checkpoint instead."""
    kind = job.WhichOneof("spec")
    if kind not in KINDS or getattr(job, kind).checkpoint:
        return False
    return job.train.pretrained if kind == "train" else True
