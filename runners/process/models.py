"""Checks a job's model against its framework's manifest, as the scheduler does when the job is created."""

import difflib

from runners.process.errors import UserError
from visionmesh.v1 import runner_pb2


def check_model(manifest: runner_pb2.FrameworkManifest, name: str | None) -> None:
    """Raises UserError for a model that the manifest does not list; one that lists none takes any."""
    known = [model.name for model in manifest.models]
    if not name or not known or name in known:
        return
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"Did you mean {nearest[0]!r}?" if nearest else f"It has {', '.join(known[:12])}."
    raise UserError(f"{manifest.framework} has no model {name!r} here. {hint}", reason="UNKNOWN_MODEL")
