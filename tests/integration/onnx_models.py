"""Tiny networks with the inputs and outputs of YuNet and SFace, whose answers can be told in advance.

They have learned nothing: they show that what OpenCV makes of such files arrives where it should.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CELL = 32
"""The detector takes each green square of this side that lies on the grid for a face."""

POINTS = ((0.3, 0.4), (0.7, 0.35), (0.5, 0.6), (0.35, 0.8), (0.65, 0.85))
"""Where it sees eyes, nose and corners of the mouth in a square, the right one of each pair first."""


def write_detector(path: Path) -> None:
    """YuNet's outputs for strides 8, 16 and 32; only the last one finds anything."""
    nodes, weights = [], []
    names = []
    for kind, width in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)):
        for stride in (8, 16, CELL):
            name = f"{kind}_{stride}"
            kernel = np.zeros((width, 3, 1, 1), np.float32)
            bias = np.zeros(width, np.float32)
            if kind in {"cls", "obj"} and stride == CELL:
                kernel[0, :, 0, 0] = (-1 / 255, 1 / 255, -1 / 255)
            if kind == "bbox":
                bias[:2] = 0.5  # the centre of its cell, and of its size
            if kind == "kps":
                bias[:] = np.ravel(POINTS)
            weights += [
                numpy_helper.from_array(kernel, f"{name}_w"),
                numpy_helper.from_array(bias, f"{name}_b"),
            ]
            weights.append(numpy_helper.from_array(np.array([1, -1, width], np.int64), f"{name}_s"))
            size = {"kernel_shape": [stride, stride], "strides": [stride, stride]}
            nodes += [
                helper.make_node("AveragePool", ["input"], [f"{name}_p"], **size),
                helper.make_node("Conv", [f"{name}_p", f"{name}_w", f"{name}_b"], [f"{name}_c"]),
                helper.make_node("Transpose", [f"{name}_c"], [f"{name}_t"], perm=[0, 2, 3, 1]),
                helper.make_node("Reshape", [f"{name}_t", f"{name}_s"], [name]),
            ]
            names.append((name, width))
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, "n", width]) for name, width in names
    ]
    _write(path, nodes, weights, ("input", [1, 3, 640, 640]), outputs)


def write_embedder(path: Path) -> None:
    """SFace's 112 x 112 pixels in and 128 numbers out: the mean red and blue of 8 x 8 tiles."""
    kernel = np.zeros((2, 3, 1, 1), np.float32)
    kernel[0, 0], kernel[1, 2] = 1, 1
    weights = [numpy_helper.from_array(kernel, "w")]
    nodes = [
        helper.make_node("AveragePool", ["data"], ["tiles"], kernel_shape=[14, 14], strides=[14, 14]),
        helper.make_node("Conv", ["tiles", "w"], ["chosen"]),
        helper.make_node("Flatten", ["chosen"], ["fc1"]),
    ]
    outputs = [helper.make_tensor_value_info("fc1", TensorProto.FLOAT, [1, 128])]
    _write(path, nodes, weights, ("data", [1, 3, 112, 112]), outputs)


def _write(
    path: Path,
    nodes: list[onnx.NodeProto],
    weights: list[onnx.TensorProto],
    takes: tuple[str, list[int]],
    outputs: list[onnx.ValueInfoProto],
) -> None:
    inputs = [helper.make_tensor_value_info(takes[0], TensorProto.FLOAT, takes[1])]
    graph = helper.make_graph(nodes, path.stem, inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
