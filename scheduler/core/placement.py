"""What fits on a runner, and what stands in the way."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Obstacle(StrEnum):
    """Why a runner does not take a job at this moment."""

    OFFLINE = "OFFLINE"
    DRAINING = "DRAINING"
    FRAMEWORK = "FRAMEWORK"
    SELECTOR = "SELECTOR"
    PRETRAINED = "PRETRAINED"
    SLOTS = "SLOTS"
    GPUS = "GPUS"
    GPU_MEMORY = "GPU_MEMORY"
    CPUS = "CPUS"
    RESERVED = "RESERVED"


PERMANENT = frozenset({Obstacle.FRAMEWORK, Obstacle.SELECTOR, Obstacle.PRETRAINED})
"""Obstacles that freeing the runner does not remove."""


PUBLISHED = {":pretrained": "true"}
"""Label of runners that may fetch published weights; jobs that need some select by it."""


@dataclass(frozen=True)
class Shape:
    """A distinct requirement; all queued jobs of one shape fit on the same runners."""

    framework: str
    gpus: int = 0
    gpu_memory_mib: int = 0
    cpus: float = 0.0
    selector: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Gpu:
    """One GPU of a runner."""

    index: int
    memory_mib: int


@dataclass(frozen=True)
class Node:
    """A runner as placement sees it: what it has, less what live attempts occupy."""

    name: str
    framework: str
    online: bool = True
    draining: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    free_slots: int = 1
    free_cpus: float = 0.0
    free_gpus: tuple[Gpu, ...] = ()
    reserved_for: str | None = None
    """Job that the runner is being kept free for."""


def obstacles(shape: Shape, node: Node) -> tuple[Obstacle, ...]:
    """Everything that keeps `node` from taking a job of `shape` now; empty if it fits."""
    able = [gpu for gpu in node.free_gpus if gpu.memory_mib >= shape.gpu_memory_mib]
    lacking = {key for key, value in shape.selector.items() if node.labels.get(key) != value}
    checks = (
        (Obstacle.OFFLINE, not node.online),
        (Obstacle.DRAINING, node.draining),
        (Obstacle.FRAMEWORK, shape.framework != node.framework),
        (Obstacle.SELECTOR, bool(lacking - PUBLISHED.keys())),
        (Obstacle.PRETRAINED, bool(lacking & PUBLISHED.keys())),
        (Obstacle.SLOTS, node.free_slots < 1),
        (Obstacle.GPUS, len(node.free_gpus) < shape.gpus),
        (Obstacle.GPU_MEMORY, len(able) < shape.gpus <= len(node.free_gpus)),
        (Obstacle.CPUS, node.free_cpus < shape.cpus),
    )
    return tuple(obstacle for obstacle, stands in checks if stands)


def choose_gpus(shape: Shape, node: Node) -> tuple[int, ...]:
    """Indices of the GPUs to give: the smallest that suffice, so that big ones stay free."""
    able = [gpu for gpu in node.free_gpus if gpu.memory_mib >= shape.gpu_memory_mib]
    able.sort(key=lambda gpu: (gpu.memory_mib, gpu.index))
    return tuple(sorted(gpu.index for gpu in able[: shape.gpus]))
