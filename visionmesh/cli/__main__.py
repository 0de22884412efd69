"""`python -m visionmesh.cli` is `vmesh`."""

from visionmesh.cli import main

main()
