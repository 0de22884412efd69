"""What frameworks that are made of PyTorch share: devices, datasets, processes, where a training begins."""
