"""The ultralytics framework: trains, validates and runs YOLO, RT-DETR and YOLO-World, and runs SAM.

ultralytics is AGPL-3.0; only this folder imports it, and only inside job processes.
"""
