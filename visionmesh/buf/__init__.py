"""Generated from the descriptor of buf/validate/validate.proto by `make protos`; do not edit the modules beside this one."""
