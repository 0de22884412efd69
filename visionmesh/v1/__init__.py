"""Generated from protos/visionmesh/v1 by `make protos`; do not edit the modules beside this one."""
