"""The faces framework: finds faces in images and turns them into vectors, with OpenCV."""
