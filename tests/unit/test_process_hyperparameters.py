"""Hyperparameters are checked by name, kind, type and range; rates by the clock."""

from typing import Any

import pytest

from runners.process.errors import UserError
from runners.process.hyperparameters import check_hyperparameters, with_types
from runners.process.rates import Rate
from visionmesh.v1 import runner_pb2

MANIFEST = runner_pb2.FrameworkManifest(
    framework="test",
    hyperparameters=[
        runner_pb2.Hyperparameter(
            name="mosaic", type=runner_pb2.HYPERPARAMETER_TYPE_FLOAT, min=0, max=1, kinds=["train"]
        ),
        runner_pb2.Hyperparameter(name="nbs", type=runner_pb2.HYPERPARAMETER_TYPE_INT, min=1),
        runner_pb2.Hyperparameter(name="rect", type=runner_pb2.HYPERPARAMETER_TYPE_BOOL),
        runner_pb2.Hyperparameter(
            name="mode", type=runner_pb2.HYPERPARAMETER_TYPE_STRING, choices=["flip", "mixup"]
        ),
    ],
)


@pytest.mark.parametrize(
    "given", [{}, {"mosaic": 0}, {"mosaic": 1.0}, {"nbs": 8}, {"nbs": 8.0}, {"rect": True, "mode": "flip"}]
)
def test_what_fits_is_taken(given: dict[str, Any]) -> None:
    check_hyperparameters(MANIFEST, "train", given)


@pytest.mark.parametrize(
    ("given", "reason", "words"),
    [
        ({"mosaik": 1}, "UNKNOWN_HYPERPARAMETER", "Did you mean 'mosaic'"),
        ({"zzz": 1}, "UNKNOWN_HYPERPARAMETER", "It knows: mode, mosaic, nbs, rect"),
        ({"mosaic": 1.1}, "BAD_HYPERPARAMETER", "at most 1"),
        ({"mosaic": True}, "BAD_HYPERPARAMETER", "a number"),
        ({"mosaic": float("nan")}, "BAD_HYPERPARAMETER", "a number"),
        ({"nbs": 0}, "BAD_HYPERPARAMETER", "at least 1"),
        ({"nbs": 1.5}, "BAD_HYPERPARAMETER", "a whole number"),
        ({"rect": 1}, "BAD_HYPERPARAMETER", "true or false"),
        ({"mode": 3}, "BAD_HYPERPARAMETER", "a text"),
        ({"mode": "blend"}, "BAD_HYPERPARAMETER", "flip, mixup"),
    ],
)
def test_what_does_not_fit_is_refused(given: dict[str, Any], reason: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        check_hyperparameters(MANIFEST, "train", given)
    assert caught.value.reason == reason
    assert words in str(caught.value)


def test_a_setting_of_another_kind_is_unknown() -> None:
    with pytest.raises(UserError, match="for validate"):
        check_hyperparameters(MANIFEST, "validate", {"mosaic": 0.5})


def test_whole_numbers_become_int() -> None:
    typed = with_types(MANIFEST, {"nbs": 8.0, "mosaic": 1.0, "rect": True})
    assert typed == {"nbs": 8, "mosaic": 1.0, "rect": True}
    assert isinstance(typed["nbs"], int)
    assert isinstance(typed["mosaic"], float)


def test_a_rate_is_that_of_the_last_seconds() -> None:
    rate = Rate()
    rate.restart(0.0)
    assert rate.per_second(0.0) == 0.0
    for second in range(1, 11):
        rate.add(10)
        assert rate.per_second(float(second)) == 10.0
    for second in range(11, 21):
        rate.add(50)
        last = rate.per_second(float(second))
    assert last == 50.0
