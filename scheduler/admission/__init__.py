"""What can be said of a job without looking anything up: pure functions over messages."""

from scheduler.admission.defaults import with_defaults
from scheduler.admission.manifest import check_against_manifest
from scheduler.admission.references import References, references
from scheduler.admission.rules import violations_of

__all__ = ["References", "check_against_manifest", "references", "violations_of", "with_defaults"]
