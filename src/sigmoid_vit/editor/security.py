"""Who may use the server (Jupyter's model): known hosts, the token, and changes from its own page only."""

import secrets
import sys
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sigmoid_vit.editor.responses import Refused, refusal

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
NOTEBOOK = "'self' http://127.0.0.1:* http://localhost:*"  # frame ancestors of `show`
BODY_TYPES = ("application/octet-stream", "application/json")
CONTENT_SECURITY_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "connect-src": "'self'",
    "img-src": "'self' blob: data:",
    "base-uri": "'none'",
    "form-action": "'none'",
}


@dataclass(frozen=True)
class Policy:
    """Which requests are served.

    Args:
        hosts: the values of the Host header, in lower case, under which the server may be reached.
        frame_ancestors: which pages may show the editor in a frame, in the words of the CSP.
        token: what every request under api/ carries; a random one per start.
    """

    hosts: frozenset[str]
    frame_ancestors: str = "'none'"
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)

    def headers(self) -> dict[str, str]:
        """The headers of every response."""
        csp = {**CONTENT_SECURITY_POLICY, "frame-ancestors": self.frame_ancestors}
        return {
            "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in csp.items()),
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cache-Control": "no-store",
        }


def allowed_hosts(host: str, port: int, more: Iterable[str] = ()) -> frozenset[str]:
    """The loopback names with this port, the address that is listened on, and `more` as they are."""
    names = [*LOOPBACK, f"[{host}]" if ":" in host else host]
    return frozenset(name.lower() for name in (*(f"{name}:{port}" for name in names), *more))


class RequireKnownHost:
    """In front of every address, static files included: the Host header, and the headers of the response.

    A page of another site that points its own name at 127.0.0.1 (DNS rebinding) fails here. What went wrong
    inside is printed in the terminal, never sent to the client.
    """

    def __init__(self, app: ASGIApp, policy: Policy) -> None:
        self.app, self.policy, self.labels = app, policy, policy.headers()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def labelled(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message).update(self.labels)
            await send(message)

        if not self._is_known(Headers(scope=scope).getlist("host")):
            sentence = "this server is not reached under that name; --allow_host allows it"
            await refusal(403, sentence)(scope, receive, labelled)
            return
        try:
            await self.app(scope, receive, labelled)
        except Exception:
            traceback.print_exc(file=sys.stderr)
            if started:
                raise
            sentence = "something went wrong in the server; its terminal says what"
            await refusal(500, sentence)(scope, receive, labelled)

    def _is_known(self, hosts: list[str]) -> bool:
        return len(hosts) == 1 and hosts[0].lower() in self.policy.hosts


class RequireToken:
    """In front of api/: the token as `Authorization: Bearer <token>`, compared in constant time."""

    def __init__(self, app: ASGIApp, policy: Policy) -> None:
        self.app, self.expected = app, f"Bearer {policy.token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._is_held(Headers(scope=scope).get("authorization", "")):
            await self.app(scope, receive, send)
            return
        sentence = "the token is missing or of an earlier start; open the address that the terminal shows"
        await refusal(401, sentence, {"WWW-Authenticate": "Bearer"})(scope, receive, send)

    def _is_held(self, given: str) -> bool:
        return secrets.compare_digest(given.encode(), self.expected)


class RequireOwnPage:
    """In front of api/: what may change something comes from the server's own page, and not from a form."""

    def __init__(self, app: ASGIApp, policy: Policy) -> None:
        self.app, self.policy = app, policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers, app = Headers(scope=scope), self.app
        if scope["method"] not in ("GET", "HEAD"):
            if not self._is_own(headers.getlist("origin")):
                app = refusal(403, "changes are taken from the editor's own page only")
            elif headers.get("content-type", "").lower() not in BODY_TYPES:
                app = refusal(415, f"the Content-Type must be one of {', '.join(BODY_TYPES)}")
        await app(scope, receive, send)

    def _is_own(self, origins: list[str]) -> bool:
        if len(origins) != 1:
            return False
        try:
            origin = urlsplit(origins[0])
        except ValueError:
            return False
        own = origins[0] == f"{origin.scheme}://{origin.netloc}"  # nothing behind the host
        return own and origin.scheme in ("http", "https") and origin.netloc.lower() in self.policy.hosts


async def read_body(request: Request, limit: int) -> bytes:
    """The body, of at most `limit` bytes: more is refused before it is read, or as soon as it is too much."""
    announced = request.headers.get("content-length", "0")
    if not (announced.isascii() and announced.isdigit()):
        raise Refused(400, "the Content-Length is not a number")
    too_large = Refused(413, f"the body is too large; it may have {limit} bytes")
    if len(announced) > 18 or int(announced) > limit:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise too_large
    return bytes(body)
