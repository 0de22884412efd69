"""The timm framework: trains, validates and runs image classifiers; only this folder imports timm."""
