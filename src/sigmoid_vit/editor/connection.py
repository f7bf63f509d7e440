"""A connection to the server that nobody can keep open by half a request, and so lock the person out."""

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from sigmoid_vit.editor.responses import refusal

REQUEST_SECONDS = 20  # from the start of a connection, or the end of a request, to the end of the next one
MAX_CONNECTIONS = 64  # a browser keeps 6; with those just taken in, far below 256 files (macOS)
MAX_REQUEST_LINE = 2**16  # bytes of a request's first line and headers; a note travels in the first line
TAKEN_AT_ONCE = 32  # new connections, before those beyond MAX_CONNECTIONS are closed
QUEUE = 1024  # new connections that wait to be taken in


class Connection(H11Protocol):
    """uvicorn's connection, with a time-out for requests, a limit of connections, and headers on its own 400.

    Beyond MAX_CONNECTIONS the one is closed whose last whole request is the longest ago; first those whose
    response is not being computed.

    Args:
        labels: the headers of every response.
    """

    def __init__(self, *args, labels: dict[str, str], **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.labels = labels
        self.since = self.loop.time()
        self.clock: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._watch()
        if len(self.connections) > MAX_CONNECTIONS:
            others = self.connections - {self}
            oldest = min(others, key=lambda connection: (connection.is_served, connection.since))
            self.connections.discard(oldest)
            oldest.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_clock()

    def handle_events(self) -> None:
        super().handle_events()
        self._watch()

    @property
    def is_served(self) -> bool:
        """Whether the server works on a response; one that the client does not read is none."""
        return bool(self.cycle and not self.cycle.response_complete and not self.flow.write_paused)

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP gets the refusal that every other request gets, unless a response has begun."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            sentence = f"this is no HTTP request, or its head is longer than {MAX_REQUEST_LINE} bytes"
            response = refusal(400, sentence, {**self.labels, "Connection": "close"})
            head = h11.Response(status_code=400, headers=response.raw_headers, reason=b"Bad Request")
            for event in (head, h11.Data(data=response.body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event))
        self.transport.close()

    def _watch(self) -> None:
        """Let the clock run while a request is awaited, headers or body."""
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self.since = self.loop.time()
            self._stop_clock()
        elif not self.clock:
            self.clock = self.loop.call_later(REQUEST_SECONDS, self.transport.abort)

    def _stop_clock(self) -> None:
        if self.clock:
            self.clock.cancel()
        self.clock = None
