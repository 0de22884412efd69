"""Checks a job's model and prompts against its framework's manifest, as the scheduler does at first."""

import difflib
from collections.abc import Sequence

from runners.process.errors import UserError
from visionmesh.v1 import job_pb2, runner_pb2


def check_model(manifest: runner_pb2.FrameworkManifest, name: str | None) -> None:
    """Raises UserError for a model that the manifest does not list; one that lists none takes any."""
    known = [model.name for model in manifest.models]
    if not name or not known or name in known:
        return
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"Did you mean {nearest[0]!r}?" if nearest else f"It has {', '.join(known[:12])}."
    raise UserError(f"{manifest.framework} has no model {name!r} here. {hint}", reason="UNKNOWN_MODEL")


def check_prompts(manifest: runner_pb2.FrameworkManifest, prompts: Sequence[job_pb2.Prompt]) -> None:
    """Raises UserError for prompts where no model of the framework takes any."""
    if prompts and not any(model.promptable for model in manifest.models):
        raise UserError(
            f"No model of {manifest.framework} takes prompts. Unset PROMPTS, or use another framework.",
            reason="UNSUPPORTED",
        )
