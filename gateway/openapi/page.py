"""/openapi.json, and /docs: Swagger UI from an installed package, so that it works without the internet."""

from importlib.util import find_spec
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from gateway.openapi.document import document

_OWN = Path(__file__).parent
_NEEDED = ("swagger-ui.css", "swagger-ui-bundle.js")

_POLICY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:"
"""The page loads nothing from elsewhere, and runs no script but the two files."""

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>VisionMesh</title>
<link rel="stylesheet" href="/docs/swagger-ui.css">
<div id="docs"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</html>
"""


def docs_routes() -> list[Route]:
    """The routes of the page and of the document."""
    return [
        Route("/openapi.json", _document),
        Route("/docs", _page),
        Route("/docs/start.js", _start),
        *(Route(f"/docs/{name}", _asset) for name in _NEEDED),
    ]


async def _document(request: Request) -> Response:
    return JSONResponse(document())


async def _page(request: Request) -> Response:
    return HTMLResponse(_PAGE, headers={"Content-Security-Policy": _POLICY})


async def _start(request: Request) -> Response:
    return FileResponse(_OWN / "start.js")


async def _asset(request: Request) -> Response:
    return FileResponse(_bundle() / request.url.path.rpartition("/")[2])


def _bundle() -> Path:
    """Where the package has the files. It is not imported: it would want Flask."""
    package = find_spec("flask_swagger_ui")
    if package is None or package.origin is None:
        raise FileNotFoundError("flask-swagger-ui is not installed. Install visionmesh again.")
    return Path(package.origin).parent / "dist"
