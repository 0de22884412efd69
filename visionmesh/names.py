"""Resource names, such as jobs/{job}: how they are made, taken apart and told from each other."""

import secrets

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u


def new_id(prefix: str) -> str:
    """A new id such as "train-7k3m9q2x": the prefix and 40 random bits."""
    return prefix + "-" + "".join(secrets.choice(_ALPHABET) for _ in range(8))


def job_name(job_id: str) -> str:
    """jobs/{job}."""
    return f"jobs/{job_id}"


def job_id(name: str) -> str:
    """The {job} of jobs/{job} or of anything below it."""
    return name.split("/")[1]


def runner_name(runner_id: str) -> str:
    """runners/{runner}."""
    return f"runners/{runner_id}"


def runner_id(name: str) -> str:
    """The {runner} of runners/{runner}."""
    return name.split("/")[1]


def dataset_name(dataset_id: str) -> str:
    """datasets/{dataset}."""
    return f"datasets/{dataset_id}"


def dataset_id(name: str) -> str:
    """The {dataset} of datasets/{dataset}."""
    return name.split("/")[1]


def upload_name(upload_id: str) -> str:
    """uploads/{upload}."""
    return f"uploads/{upload_id}"


def upload_id(name: str) -> str:
    """The {upload} of uploads/{upload}."""
    return name.split("/")[1]


def artifact_name(job_id: str, artifact: str) -> str:
    """jobs/{job}/artifacts/{artifact}."""
    return f"jobs/{job_id}/artifacts/{artifact}"


def artifact_path(name: str) -> str:
    """The {artifact} of jobs/{job}/artifacts/{artifact}; it may hold slashes."""
    return name.split("/", 3)[3]


def is_artifact(name: str) -> bool:
    """Whether `name` has the form jobs/{job}/artifacts/{artifact}."""
    parts = name.split("/", 3)
    return len(parts) == 4 and parts[0] == "jobs" and parts[2] == "artifacts" and all(parts)
