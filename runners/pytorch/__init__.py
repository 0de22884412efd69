"""What frameworks that are made of PyTorch share: devices, images, the loop over them, pictures, epochs."""
