"""Checks of what a mesh needs: each says what it saw and what to do."""

from visionmesh.doctor._finding import Finding, Verdict, ok, problem, warning

__all__ = ["Finding", "Verdict", "ok", "problem", "warning"]
