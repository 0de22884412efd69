"""Pictures of confusion matrices."""

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from runners.process.emitter import Emitter
from runners.process.environment import JobEnvironment
from visionmesh.names import artifact_name
from visionmesh.v1 import process_pb2, result_pb2

PLAIN = "confusion_matrix.png"
"""Picture of the counts."""

NORMALIZED = "confusion_matrix_normalized.png"
"""Picture with each column divided by its sum."""

_BLUES = LinearSegmentedColormap.from_list("visionmesh", ["#f7fafd", "#9cc4e4", "#2f78b7", "#0b2f5b"])
_INK, _QUIET = "#1f2933", "#7b8794"
_MOST_NUMBERED = 30  # more classes than this, and numbers in cells cannot be read


def publish(matrix: result_pb2.ConfusionMatrix, environment: JobEnvironment, emitter: Emitter) -> None:
    """Draw both pictures below the output path, announce them, and name them in `matrix`."""
    for name, normalized in ((PLAIN, False), (NORMALIZED, True)):
        draw(matrix, environment.output_path / name, normalized=normalized)
        emitter.file(
            process_pb2.OutputFile(
                path=name, artifact=name, kind=result_pb2.ARTIFACT_KIND_PLOT, content_type="image/png"
            )
        )
    matrix.artifact = artifact_name(environment.job_id, PLAIN)
    matrix.normalized_artifact = artifact_name(environment.job_id, NORMALIZED)


def draw(matrix: result_pb2.ConfusionMatrix, path: Path, *, normalized: bool) -> None:
    """Draw `matrix` as PNG: predicted classes down, true ones across."""
    labels = list(matrix.labels)
    size = len(labels)
    counts = np.asarray(matrix.counts, dtype=float).reshape(size, size)
    shown = counts / np.maximum(counts.sum(axis=0, keepdims=True), 1e-9) if normalized else counts
    side = min(4.2 + 0.55 * size, 24)
    figure = Figure(figsize=(side + 1.0, side), dpi=140, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    top = 1.0 if normalized else max(float(shown.max()), 1.0)
    image = axes.imshow(shown, cmap=_BLUES, vmin=0, vmax=top)
    for edge in axes.spines.values():
        edge.set_visible(False)
    axes.set_xticks(range(size), labels, rotation=35 if size > 4 else 0, ha="right" if size > 4 else "center")
    axes.set_yticks(range(size), labels)
    axes.tick_params(length=0, labelsize=9, colors=_INK)
    axes.set_xticks(np.arange(-0.5, size), minor=True)
    axes.set_yticks(np.arange(-0.5, size), minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="minor", length=0)
    axes.set_xlabel("true", color=_QUIET, labelpad=8)
    axes.set_ylabel("predicted", color=_QUIET, labelpad=8)
    title = "Confusion matrix" + (", share of each true class" if normalized else "")
    axes.set_title(title, loc="left", fontsize=13, fontweight="bold", color=_INK, pad=24)
    if matrix.iou_threshold:  # of detection only
        thresholds = f"confidence ≥ {matrix.confidence_threshold:.2f}, IoU ≥ {matrix.iou_threshold:.2f}"
        axes.text(0, 1.015, thresholds, transform=axes.transAxes, fontsize=9, color=_QUIET, va="bottom")
    if size <= _MOST_NUMBERED:
        _write_numbers(axes, shown, top, normalized=normalized)
    bar = figure.colorbar(image, ax=axes, fraction=0.045, pad=0.03)
    bar.outline.set_visible(False)
    bar.locator = MaxNLocator(integer=not normalized, nbins=6)
    bar.update_ticks()
    bar.ax.tick_params(length=0, labelsize=8, colors=_QUIET)
    figure.savefig(path)


def _write_numbers(axes: object, shown: np.ndarray, top: float, *, normalized: bool) -> None:
    for (row, column), value in np.ndenumerate(shown):
        if value == 0:
            continue
        text = f"{value:.2f}" if normalized else f"{value:.0f}"
        colour = "white" if value > 0.5 * top else _INK
        axes.text(column, row, text, ha="center", va="center", fontsize=10, color=colour)  # type: ignore[attr-defined]
