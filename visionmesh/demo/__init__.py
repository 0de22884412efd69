"""The demo: drawn shapes, a mesh of its own, one pipeline of train, validate and infer."""

from visionmesh.demo._run import run_demo

__all__ = ["run_demo"]
