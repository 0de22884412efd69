"""What is refused of lists, watches and downloads."""

from refusal_world import Table, bad, gone, past, reads, rpc

from visionmesh.errors import Reason
from visionmesh.v1 import dataset_pb2, job_pb2, progress_pb2, result_pb2, runner_pb2

_BAD = Reason.INVALID_ARGUMENT

OF_JOBS = {
    "ListJobEvents": ("jobs", job_pb2.ListJobEventsRequest),
    "ListMetrics": ("progress", progress_pb2.ListMetricsRequest),
    "ListPredictions": ("results", result_pb2.ListPredictionsRequest),
    "ListArtifacts": ("results", result_pb2.ListArtifactsRequest),
}
OF_THE_MESH = {
    "ListJobs": ("jobs", job_pb2.ListJobsRequest),
    "ListRunners": ("runners", runner_pb2.ListRunnersRequest),
    "ListDatasets": ("datasets", dataset_pb2.ListDatasetsRequest),
}


def lists(method, **fields):
    """One of the lists; those of a job list the running one's."""
    service, request = (OF_JOBS | OF_THE_MESH)[method]
    parent = method in OF_JOBS and "parent" not in fields
    return rpc(service, method, lambda w: request(**fields, **({"parent": w.running} if parent else {})))


def of_another_list(method):
    """The page token of a list of jobs, on a list with another filter or of something else."""

    async def ask(world):
        first = job_pb2.ListJobsRequest(page_size=1, filter="kind = train")
        token = (await world.mesh.call(world.mesh.jobs.ListJobs, first)).next_page_token
        await lists(method, page_token=token)(world)

    return ask


PAGES: Table = {
    f"{method}: {case}": row
    for method in OF_JOBS | OF_THE_MESH
    for case, row in {
        "page size -1": bad(lists(method, page_size=-1), _BAD, "page_size", "got -1",
        "must be between 0 and"),
        "page size above the limit": bad(
            lists(method, page_size=10**6), _BAD, "page_size", "got 1000000", "must be between 0 and"
        ),
        "page token of nobody": bad(
            lists(method, page_token="!"), Reason.BAD_PAGE_TOKEN, "page_token", "was not made by",
            "Start again without it"
        ),
        "page token of another list": bad(
            of_another_list(method), Reason.BAD_PAGE_TOKEN, "page_token", "another filter or order",
            "Start again without it"
        ),
    }.items()
}  # fmt: skip

ABSENT: Table = {
    f"{method} of an absent job": gone(lists(method, parent="jobs/absent"), "no job 'jobs/absent'")
    for method in OF_JOBS
} | {
    f"{method} of a malformed job": bad(
        lists(method, parent="jobs/A B"), _BAD, "parent", "got 'jobs/A B'", "must have the form jobs/{job}"
    )
    for method in OF_JOBS
}

FILTERS: Table = {
    "filter by an unknown field": bad(
        lists("ListJobs", filter="colour = red"), Reason.BAD_FILTER, "filter", "no field 'colour'", "labels.",
    ),
    "filter by an unknown state": bad(
        lists("ListJobs", filter="state = DONE"), Reason.BAD_FILTER, "filter", "'DONE'", "PENDING, QUEUED",
    ),
    "filter that breaks off": bad(
        lists("ListJobs", filter="state = QUEUED AND"), Reason.BAD_FILTER, "filter", "character 19",
        "expected",
    ),
    "filter without AND": bad(
        lists("ListJobs", filter="kind = train priority = 5"), Reason.BAD_FILTER, "filter", "character",
        "AND",
    ),
    "filter that is too long": bad(
        lists("ListJobs", filter="x" * 2001), _BAD, "filter", "2001 characters", "at most 2000",
    ),
    "order by an unknown field": bad(
        lists("ListJobs", order_by="colour"), Reason.BAD_FILTER, "order_by", "colour",
        "create_time, update_time",
    ),
    "filter of a watch": bad(
        reads("jobs", "WatchJobs", lambda w: job_pb2.WatchJobsRequest(filter="colour = red")),
        Reason.BAD_FILTER, "filter", "no field 'colour'", "labels.",
    ),
}  # fmt: skip

WATCHES: Table = {
    "watch of an absent job": gone(
        reads("progress", "WatchProgress", lambda w: progress_pb2.WatchProgressRequest(job="jobs/absent")),
        "no job 'jobs/absent'",
    ),
    "watch of an absent job's predictions": gone(
        reads("results", "WatchPredictions", lambda w: result_pb2.WatchPredictionsRequest(job="jobs/absent")),
        "no job 'jobs/absent'",
    ),
    "watch of a malformed job": bad(
        reads("progress", "WatchProgress", lambda w: progress_pb2.WatchProgressRequest(job="train-1")),
        _BAD, "job", "got 'train-1'", "must have the form jobs/{job}",
    ),
    "watch from a negative sequence": bad(
        reads("progress", "WatchProgress",
        lambda w: progress_pb2.WatchProgressRequest(job=w.running, after_sequence=-1)),
        _BAD, "after_sequence", "got -1", "must be greater than or equal to 0",
    ),
    "predictions from a negative sequence": bad(
        reads("results", "WatchPredictions", lambda w: result_pb2.WatchPredictionsRequest(
            job=w.running, after_sequence=-1)),
        _BAD, "after_sequence", "got -1", "must be greater than or equal to 0",
    ),
    "watch from beyond the history": past(
        reads("progress", "WatchProgress",
        lambda w: progress_pb2.WatchProgressRequest(job=w.running, after_sequence=1000)),
        Reason.OUT_OF_RANGE, "", "ends at", "Watch again from the beginning",
    ),
    "predictions from beyond the history": past(
        reads("results", "WatchPredictions", lambda w: result_pb2.WatchPredictionsRequest(
            job=w.finished, after_sequence=1000)),
        Reason.OUT_OF_RANGE, "", "ends at", "Watch again from the beginning",
    ),
    "resume token of nobody": bad(
        reads("jobs", "WatchJobs", lambda w: job_pb2.WatchJobsRequest(resume_token="bm9ib2R5")),
        Reason.BAD_PAGE_TOKEN, "resume_token", "was not made by", "Start again without it",
    ),
}  # fmt: skip


def download(make):
    return reads("results", "DownloadArtifact", make)


RESULTS: Table = {
    "result of an absent job": gone(
        rpc("results", "GetResult", lambda w: result_pb2.GetResultRequest(name="jobs/absent/result")),
        "no job 'jobs/absent'",
    ),
    "download of an absent artifact": gone(
        download(lambda w: result_pb2.DownloadArtifactRequest(artifact=f"{w.finished}/artifacts/best")),
        "no artifact 'jobs/",
    ),
    "download from an absent job": gone(
        download(lambda w: result_pb2.DownloadArtifactRequest(artifact="jobs/absent/artifacts/best")),
        "no artifact 'jobs/absent/artifacts/best'",
    ),
    "download by a path that leads out": gone(
        download(lambda w: result_pb2.DownloadArtifactRequest(
            artifact=f"{w.finished}/artifacts/../../secret")),
        "/artifacts/../../secret'",
    ),
    "download of what is no artifact": bad(
        download(lambda w: result_pb2.DownloadArtifactRequest(artifact=w.finished)),
        _BAD, "artifact", "got 'jobs/", "must have the form jobs/{job}/artifacts/{artifact}",
    ),
    "download from before the beginning": bad(
        download(lambda w: result_pb2.DownloadArtifactRequest(
            artifact=f"{w.finished}/artifacts/notes", read_offset=-1)),
        _BAD, "read_offset", "got -1", "must be greater than or equal to 0",
    ),
    "download from behind the end": past(
        download(lambda w: result_pb2.DownloadArtifactRequest(
            artifact=f"{w.finished}/artifacts/notes", read_offset=11)),
        Reason.OUT_OF_RANGE, "", "read_offset 11 is past the end", "the file has 10 bytes",
    ),
}  # fmt: skip
