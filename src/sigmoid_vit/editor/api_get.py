"""The addresses below api/ that are read (GET); none of them changes anything."""

import tempfile
import zipfile
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np
from anyio import from_thread
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from sigmoid_vit.data import BadImage
from sigmoid_vit.editor import request_fields as p
from sigmoid_vit.editor.responses import AsciiJson, Refused, top_classes
from sigmoid_vit.editor.session import Session
from sigmoid_vit.editor.work_queue import Filter
from sigmoid_vit.edits.changes import changes_of
from sigmoid_vit.edits.exchange import export_edits
from sigmoid_vit.edits.status import SENT_BACK, STATUSES, is_review, status_of
from sigmoid_vit.edits.store import StoredEdit

BINARY = "application/octet-stream"
PAGE = 1000  # images whose items are in one response, at most


def routes() -> list[Route]:
    """The addresses below api/."""
    image = "/images/{k}"
    return [
        Route("/session", session),
        Route("/queue", queue),
        Route("/items", items),
        Route("/newest", newest),
        Route("/export", export),
        Route("/propagated", propagated),
        Route(image, describe),
        Route(f"{image}/edit", edit),
        Route(f"{image}/picture", picture),
        Route(f"{image}/close_up", close_up),
        Route(f"{image}/thumbnail", thumbnail),
        Route(f"{image}/outline", outline),
        Route(f"{image}/attention", attention),
        Route(f"{image}/decision", decision),
        Route(f"{image}/region", region),
        Route(f"{image}/first_step", first_step),
        Route(f"{image}/history", history),
    ]


def session(request: Request) -> Response:
    return AsciiJson(_session(request).facts())


def queue(request: Request) -> Response:
    s = _session(request)
    last = len(s.classes) - 1
    wanted = Filter(
        p.optional_number(request, "class", None, high=last),
        p.text(request, "search"),
        p.choice(request, "status", ("all", *STATUSES)),
        p.text(request, "author"),
        p.choice(request, "answer", ("all", "right", "wrong")),
        p.optional_number(request, "predicted", None, high=last),
    )
    order = p.choice(request, "order", tuple(s.queue.orders))
    s.edits.refresh()
    facts = s.team.overview()  # before the list, lest a change come between
    return AsciiJson(
        facts | s.queue.page(order, wanted, p.optional_number(request, "limit", 100, low=1, high=PAGE))
    )


def items(request: Request) -> Response:
    s = _session(request)
    return AsciiJson({"items": s.queue.items(p.images(request, len(s.part), PAGE))})


def newest(request: Request) -> Response:
    """The current edits of images: revision and author, None without one. Unreadable files are left out."""
    s = _session(request)
    found = []
    for k in p.images(request, len(s.part), p.APPLIED):
        with suppress(BadImage):
            edit = s.edits.newest_and_current(k)[1]
            facts = {"revision": edit and edit.revision, "author": edit and edit.author}
            found.append({"k": k, "id": s.part.ids[k], "status": s.edits.status[k], **facts})
    return AsciiJson({"images": found})


def describe(request: Request) -> Response:
    s, k = _image(request)
    s.edits.refresh()
    newest, current = s.edits.newest_and_current(k)
    unedited = s.predictor.unedited(k)
    is_other = newest is not None and not newest.deleted and current is None
    described = {
        "k": k,
        "id": s.part.ids[k],
        "label": int(s.part.labels[k]),
        **top_classes(unedited, unedited, s.part.labels[k]),
        "size": s.images.shown_size(k),
        "newest": newest and newest.revision,
        "edit": current and _described(current, s.edits.drawn(k), s),
        "of_another_image": {"revision": newest.revision, "author": newest.author} if is_other else None,
        "status": s.edits.status[k],
        "author": s.edits.author[k],
    }
    return AsciiJson(described)


def edit(request: Request) -> Response:
    s, k = _image(request)
    revision = p.optional_number(request, "revision", None)
    found = s.edits.newest_and_current(k)[1] if revision is None else s.edits.revision(k, revision)
    if found is None:
        raise Refused(404, f"image {k} has no current edit")
    return Response(p.grid_bytes(*(x.numpy() for x in found.on_grid(s.predictor.grid))), media_type=BINARY)


def picture(request: Request) -> Response:
    s, k = _image(request)
    return Response(s.images.picture(k), media_type="image/png")


def close_up(request: Request) -> Response:
    """A part of the picture by its own pixels: left, top, right, bottom, and how many become one."""
    s, k = _image(request)
    box = tuple(p.optional_number(request, side, 0) for side in ("left", "top", "right", "bottom"))
    shrink = int(p.choice(request, "shrink", ("1", "2", "4", "8")))
    return Response(s.images.close_up(k, box, shrink), media_type="image/png")


def thumbnail(request: Request) -> Response:
    s, k = _image(request)
    return Response(s.images.thumbnail(k), media_type="image/jpeg")


def outline(request: Request) -> Response:
    s, k = _image(request)
    return Response(s.images.outline(k).astype("<f4").tobytes(), media_type=BINARY)


def attention(request: Request) -> Response:
    s, k = _image(request)
    gh, gw = s.predictor.grid
    view, query = p.choice(request, "view", ("sigmoid", "rollout")), p.query(request, gh * gw)
    last = s.predictor.num_layers - 1
    layer = p.optional_number(request, "layer", last, high=last)
    head = request.query_params.get("head", "mean")
    head = None if head == "mean" else p.number(head, "head", 0, s.predictor.num_heads - 1)
    if view == "rollout":
        values = s.predictor.rollout(k, query)
    else:
        values = s.predictor.attention(k, layer, head, query)
    return Response(values.numpy().astype("<f4").tobytes(), media_type=BINARY)


def decision(request: Request) -> Response:
    """The decision map of a class, or of it against another one.

    "predicted" is the class that the run's own network predicts without an edit, also where the map is that
    of the network before Step 2: both maps answer one question.
    """
    s, k = _image(request)
    network = p.choice(request, "network", ("own", "first_step"))
    predictor = s.predictor if network == "own" else s.first_step.predictor()
    if predictor.grid != s.predictor.grid:
        raise Refused(400, "the network before Step 2 has another grid")
    asked = {"explained": ("predicted", "true"), "against": ("none", "predicted", "true")}
    words = {"predicted": int(s.predictor.unedited(k).argmax()), "true": int(s.part.labels[k]), "none": None}
    given = [p.class_or_word(request, name, valid, len(s.classes)) for name, valid in asked.items()]
    target, against = (words.get(each, each) for each in given)
    exact = p.choice(request, "exact", ("yes", "no")) == "yes"
    values = predictor.decision(k, target, against, exact, lambda: not _has_left(request))
    return Response(values.numpy().astype("<f4").tobytes(), media_type=BINARY)


def region(request: Request) -> Response:
    """How far each cell lies from a point, where 1 is the end of the region that is suggested."""
    s, k = _image(request)
    return Response(s.regions.distances(k, p.point(request)).astype("<f4").tobytes(), media_type=BINARY)


def first_step(request: Request) -> Response:
    """The prediction without an edit, and "before" it that of the network before Step 2."""
    s, k = _image(request)
    before = s.first_step.predictor().unedited(k)
    return AsciiJson(top_classes(s.predictor.unedited(k), before, s.part.labels[k]))


def history(request: Request) -> Response:
    s, k = _image(request)
    names = ("revision", "author", "created", "deleted", "note", "confidence", "base")
    edits = s.edits.history(k)
    told = zip(edits, changes_of(edits), strict=True)
    revisions = [{name: getattr(edit, name) for name in names} | asdict(change) for edit, change in told]
    return AsciiJson({"revisions": revisions[::-1]})


def propagated(request: Request) -> Response:
    """How many propagated edits reach a confidence, and some of them, drawn by lot."""
    s = _session(request)
    s.edits.refresh()
    through = s.edits.seen
    found = s.edits.propagated(p.share(request, "confidence"))
    chosen = np.random.default_rng().permutation(found)[: p.optional_number(request, "sample", 12, high=100)]
    sample = [
        item | {"revision": int(s.edits.newest_revision[item["k"]])}
        for item in s.queue.items(chosen.tolist())
    ]
    return AsciiJson({"total": len(found), "through": through, "sample": sample})


def export(request: Request) -> Response:
    s = _session(request)
    with tempfile.NamedTemporaryFile(prefix="edits", suffix=".zip", delete=False) as packed:
        file = Path(packed.name)
    try:
        with tempfile.TemporaryDirectory() as folder:
            labels = zip(s.part.ids, s.part.labels, strict=True)
            class_of = {image_id: s.classes[label] for image_id, label in labels}
            export_edits(s.edits.store, folder, class_of=class_of)
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
                for path in sorted(Path(folder).rglob("*")):
                    archive.write(path, path.relative_to(folder))
    except BaseException:
        file.unlink(missing_ok=True)
        raise
    remove = BackgroundTask(file.unlink, missing_ok=True)
    return FileResponse(file, media_type="application/zip", filename="edits.zip", background=remove)


def _described(current: StoredEdit, drawn: StoredEdit, s: Session) -> dict:
    """The current edit, as it was drawn, and what a reviewer says of it."""
    names = ("created", "layers", "heads", "queries", "confidence")
    shown = {
        "revision": current.revision,
        "author": drawn.author,
        "note": drawn.note,
        "review": _review(current),
        "per_head": current.value.ndim == 3,
        "resized": current.value.shape[-2:] != s.predictor.grid,
        "other_weights": current.weights_sha256 not in ("", s.edits.weights_sha256),
    }
    return {name: getattr(current, name) for name in names} | shown


def _review(current: StoredEdit) -> dict | None:
    """Who reviewed an edit, and the reason for which it was sent back; None if nobody did."""
    if not is_review(current):
        return None
    reason = current.note.removeprefix(SENT_BACK) if status_of(current) == "sent_back" else ""
    return {"author": current.author, "reason": reason}


def _has_left(request: Request) -> bool:
    """Whether the page has given the request up; to be called by the thread that answers it."""
    return from_thread.run(request.is_disconnected)


def _session(request: Request) -> Session:
    return request.app.state.session


def _image(request: Request) -> tuple[Session, int]:
    s = _session(request)
    return s, p.position(request, len(s.part))
