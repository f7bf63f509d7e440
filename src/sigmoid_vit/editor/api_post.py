"""The addresses below api/ that compute or change something (POST): predictions and revisions of edits."""

import math
from collections.abc import Callable

import torch
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sigmoid_vit.editor import request_fields as p
from sigmoid_vit.editor.responses import AsciiJson, Refused, top_classes
from sigmoid_vit.editor.security import read_body
from sigmoid_vit.editor.session import Session
from sigmoid_vit.editor.team import ROLES
from sigmoid_vit.edits.store import StoredEdit
from sigmoid_vit.model.edit import AttentionEdit

SMALL_BODY = 4096  # bytes, where the body is no grid
APPLY_BODY = 2**16  # bytes, where it names many images
MOST_WANTED = 100  # images among which a page's next one is chosen

Change = Callable[[Request, Session, int, bytes], StoredEdit]  # request, session, image number, body


def routes() -> list[Route]:
    """The addresses below api/."""
    changes = {"edit": save, "delete": delete, "restore": restore, "accept": accept, "skip": skip}
    changes |= {"unchanged": leave_unchanged, "approve": approve, "send_back": send_back}
    endpoints = {"predict": predict} | {name: _change(change) for name, change in changes.items()}
    addresses = {f"/images/{{k}}/{name}": endpoint for name, endpoint in endpoints.items()}
    addresses |= {"/here": here, "/leave": leave, "/accept_all": accept_all, "/apply": apply}
    return [Route(address, endpoint, methods=["POST"]) for address, endpoint in addresses.items()]


async def predict(request: Request) -> Response:
    """The prediction under an edit that is not stored."""
    s, k, body = await _read(request)
    value, edited = p.grid_of(body, s.predictor.grid)
    edit = AttentionEdit(torch.tensor(value)[None], torch.tensor(edited)[None], **_scope(request, s))
    probabilities = await run_in_threadpool(s.predictor.edited, k, edit)
    unedited = await run_in_threadpool(s.predictor.unedited, k)
    return AsciiJson(top_classes(probabilities, unedited, s.part.labels[k]))


async def apply(request: Request) -> Response:
    """One edit for many images: each is a save of its own, and what was saved meanwhile stays."""
    s: Session = request.app.state.session
    body = await read_body(request, APPLY_BODY)
    source, revision, targets = p.application(body, len(s.part))
    author, client_id = p.author(request, s.author), p.client_id(request)
    apply_to = s.edits.apply
    saved, refused = await run_in_threadpool(apply_to, source, revision, targets, author, client_id)
    return AsciiJson({"saved": saved, "refused": refused})


def save(request: Request, s: Session, k: int, body: bytes) -> StoredEdit:
    value, edited = p.grid_of(body, s.predictor.grid)
    fields = _scope(request, s) | {"note": p.text(request, "note")}
    return s.edits.save(k, value, edited, **fields, **_who(request, s))


def delete(request: Request, s: Session, k: int, body: bytes) -> StoredEdit:
    return s.edits.delete(k, **_who(request, s))


def restore(request: Request, s: Session, k: int, body: bytes) -> StoredEdit:
    revision = p.optional_number(request, "revision", None)
    if revision is None:
        raise Refused(400, "revision is missing; it is the one to bring back")
    return s.edits.restore(k, revision, **_who(request, s))


def accept(request: Request, s: Session, k: int, body: bytes) -> StoredEdit:
    who = _who(request, s)
    if who["base"] is None:
        raise Refused(400, "base must be the revision of the propagated edit")
    return s.edits.accept(k, **who)


def skip(request: Request, s: Session, k: int, body: bytes) -> StoredEdit:
    return s.edits.skip(k, p.reason(body), **_who(request, s))


def leave_unchanged(request: Request, s: Session, k: int, body: bytes) -> StoredEdit:
    return s.edits.leave_unchanged(k, p.text(request, "note"), **_who(request, s))


def approve(request: Request, s: Session, k: int, body: bytes) -> StoredEdit:
    return s.edits.review(k, **_who(request, s))


def send_back(request: Request, s: Session, k: int, body: bytes) -> StoredEdit:
    return s.edits.review(k, reason=p.reason(body), **_who(request, s))


def here(request: Request) -> Response:
    """A page says who is there, what is open, and where it may go on; it is told of the others."""
    s: Session = request.app.state.session
    told = s.team.announce(
        p.page(request),
        p.author(request, s.author),
        p.optional_number(request, "open", None, high=len(s.part) - 1),
        p.images(request, len(s.part), MOST_WANTED),
        p.choice(request, "role", tuple(ROLES)),
        p.optional_number(request, "since", 0),
    )
    return AsciiJson(told)


def leave(request: Request) -> Response:
    """A page is closed."""
    request.app.state.session.team.presence.leave(p.page(request))
    return AsciiJson({})


def accept_all(request: Request) -> Response:
    """Accept every propagated edit of at least a confidence that nobody has changed since it was counted."""
    s: Session = request.app.state.session
    through = p.optional_number(request, "through", 0)
    accepted = s.edits.accept_all(p.share(request, "confidence"), through, p.author(request, s.author))
    return AsciiJson({"accepted": len(accepted)})


def _change(change: Change) -> Callable:
    """The address of a change: its response is sent once the store has committed it."""

    async def endpoint(request: Request) -> Response:
        s, k, body = await _read(request)
        stored = await run_in_threadpool(change, request, s, k, body)
        return AsciiJson(
            {"revision": stored.revision, "created": stored.created, "status": s.edits.status[k]}
        )

    return endpoint


async def _read(request: Request) -> tuple[Session, int, bytes]:
    s: Session = request.app.state.session
    k = p.position(request, len(s.part))
    return s, k, await read_body(request, max(SMALL_BODY, 5 * math.prod(s.predictor.grid)))


def _scope(request: Request, s: Session) -> dict:
    return p.scope(request, s.predictor.num_layers, s.predictor.num_heads, s.class_token)


def _who(request: Request, s: Session) -> dict:
    """What every change carries: from whom, on top of what, and its own name."""
    return {
        "author": p.author(request, s.author),
        "base": p.base(request),
        "client_id": p.client_id(request),
    }
