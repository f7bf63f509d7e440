"""The server's addresses put together, and the response to each kind of error."""

import sqlite3
import sys
from http import HTTPStatus
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import Mount, Route, Router
from starlette.staticfiles import StaticFiles

from sigmoid_vit.data import BadImage
from sigmoid_vit.editor import api_get, api_post
from sigmoid_vit.editor.responses import Refused, refusal
from sigmoid_vit.editor.security import Policy, RequireKnownHost, RequireOwnPage, RequireToken
from sigmoid_vit.editor.session import Session
from sigmoid_vit.edits.sqlite_file import StoreMoved
from sigmoid_vit.edits.store import Conflict
from sigmoid_vit.errors import UserError

PAGE = Path(__file__).parent / "page"


def create_app(session: Session, policy: Policy, root_path: str = "") -> Starlette:
    """The server of a session, which starts and ends with it.

    Args:
        root_path: a path such as "/editor" where it is reached as well, for a proxy that leaves it in.
    """
    inner = [Middleware(RequireToken, policy=policy), Middleware(RequireOwnPage, policy=policy)]
    api = Router([*api_get.routes(), *api_post.routes()], redirect_slashes=False)
    routes = [
        Route("/", lambda request: FileResponse(PAGE / "index.html")),
        Mount("/static", StaticFiles(directory=PAGE, check_dir=False)),
        Mount("/api", api, middleware=inner),
    ]
    if prefix := root_path.strip("/"):
        below = f"{prefix.split('/')[-1]}/"  # relative, as only the browser knows whether it came by https
        add_slash = Route(f"/{prefix}", lambda request: RedirectResponse(below))
        routes += [add_slash, Mount(f"/{prefix}", routes=list(routes))]
    app = Starlette(
        routes=routes,
        middleware=[Middleware(RequireKnownHost, policy=policy)],
        exception_handlers={
            HTTPException: _http_error,
            Refused: lambda request, error: refusal(error.status, str(error)),
            BadImage: _bad_image,
            Conflict: _conflict,
            StoreMoved: _store_moved,
            UserError: _user_error,
            ClientDisconnect: lambda request, error: Response(status_code=400),
        },
        lifespan=session.running,
    )
    app.state.session = session
    return app


def _http_error(request: Request, error: HTTPException) -> Response:
    sentences = {
        404: "there is nothing at this address",
        405: f"this address does not take {request.method}",
    }
    sentence = sentences.get(error.status_code, HTTPStatus(error.status_code).phrase)
    return refusal(error.status_code, sentence, error.headers)


def _bad_image(request: Request, error: BadImage) -> Response:
    print(f"error: {error}", file=sys.stderr)
    return refusal(424, "the file of this image cannot be read; the terminal says why")


def _conflict(request: Request, error: Conflict) -> Response:
    names = ("revision", "author", "created", "deleted", "note", "layers", "heads", "queries")
    theirs = error.theirs and {name: getattr(error.theirs, name) for name in names}
    return refusal(409, str(error), theirs=theirs)


def _store_moved(request: Request, error: StoreMoved) -> Response:
    print(f"error: {error}", file=sys.stderr)
    return refusal(503, "NOT SAVED: the store is not where it was; the terminal says more")


def _user_error(request: Request, error: UserError) -> Response:
    """Sentences about the input are passed on; those about the disk name paths and go to the terminal."""
    cause = error.__cause__
    if cause is None:
        return refusal(400, str(error))
    print(f"error: {error}", file=sys.stderr)
    if isinstance(cause, (UnicodeError, OverflowError)):
        return refusal(400, "the store cannot hold such a text or number")
    if isinstance(cause, (sqlite3.Error, OSError)):
        return refusal(507, "NOT SAVED: the disk did not take it; is it full, read-only or busy?")
    return refusal(500, "something went wrong in the server; its terminal says what")
