"""How many threads torch computes with."""

import os

import torch

_MOST = 8  # small detectors gain nothing from more


def use(count: int | None) -> None:
    """Compute with `count` threads; None for as many as there are cores for this process, at most 8.

    ultralytics sets one less than that each time it chooses a device, so this comes after.
    """
    torch.set_num_threads(count or min(_MOST, len(os.sched_getaffinity(0))))


def use_share(count: int | None, processes: int) -> None:
    """As `use`, for one of `processes` that share the cores."""
    use(count or max(1, min(_MOST, len(os.sched_getaffinity(0)) // processes)))
