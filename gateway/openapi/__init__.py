"""The OpenAPI document of the mesh, made from the contracts and their comments, and a page that shows it."""
