"""What frameworks that are made of PyTorch share: devices, datasets, epochs, where a training begins."""
