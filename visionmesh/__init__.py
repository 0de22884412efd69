"""VisionMesh: the public Python package."""

__version__ = "0.1.0"
