"""The cases, in the order in which they are played."""

from runners.conformance.case import Case
from runners.conformance.cases.attempts import ATTEMPTS
from runners.conformance.cases.ending import ENDING
from runners.conformance.cases.links import LINKS
from runners.conformance.cases.numbers import NUMBERS
from runners.conformance.cases.sizes import SIZES

CASES: tuple[Case, ...] = (*NUMBERS, *SIZES, *ATTEMPTS, *LINKS, *ENDING)
"""Those that end the runner come last."""
