"""The server as a process of its own, or as a thread beside a notebook."""

import functools
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from sigmoid_vit.editor.app import create_app
from sigmoid_vit.editor.browser import has_screen, start_page
from sigmoid_vit.editor.connection import MAX_REQUEST_LINE, QUEUE, TAKEN_AT_ONCE, Connection
from sigmoid_vit.editor.ports import listen, listen_near, usual_port
from sigmoid_vit.editor.security import NOTEBOOK, Policy, allowed_hosts
from sigmoid_vit.editor.session import EditorOptions, Session, login_name
from sigmoid_vit.errors import UserError

if TYPE_CHECKING:
    from IPython.display import IFrame

ANY_HOST = ("", "0.0.0.0", "::")
GRACE = 5  # seconds that requests in progress have to end after Ctrl-C


class Server(uvicorn.Server):
    """An editor that listens: it calls `when_ready`, and frees the store when it ends.

    Raises:
        UserError: the port is taken, or a part of the session cannot be used.
    """

    def __init__(self, options: EditorOptions, frame_ancestors: str = "'none'") -> None:
        self.options, self.usual = options, usual_port(options.edits)
        if options.port is None:
            self.listener = listen_near(options.host, self.usual)
        else:
            self.listener = listen(options.host, options.port)
        self.port = self.listener.getsockname()[1]
        try:
            self.session = Session(options, owner=f"the editor at {self.address}")
        except BaseException:
            self.listener.close()
            raise
        hosts = allowed_hosts(options.host, self.port, options.allow_host)
        self.policy = Policy(hosts, frame_ancestors)
        self.when_ready: Callable[[], None] = lambda: None
        self.at_end = ExitStack()
        app = create_app(self.session, self.policy, options.root_path)
        config = uvicorn.Config(
            app,
            http=functools.partial(Connection, labels=self.policy.headers()),
            ws="none",
            loop="asyncio",
            log_config=None,  # warnings go to stderr
            access_log=False,
            proxy_headers=False,
            server_header=False,
            h11_max_incomplete_event_size=MAX_REQUEST_LINE,
            backlog=TAKEN_AT_ONCE,
            timeout_graceful_shutdown=GRACE,
        )
        super().__init__(config)

    @property
    def address(self) -> str:
        """Where a browser on this computer finds it, without the token."""
        host = self.options.host
        host = "127.0.0.1" if host in ANY_HOST else f"[{host}]" if ":" in host else host
        return f"http://{host}:{self.port}/"

    @property
    def link(self) -> str:
        """The address with the token, for the person alone."""
        return f"{self.address}#token={self.policy.token}"

    @property
    def notice(self) -> str | None:
        """What there is to say of a port that is not the store's own, unless the person chose it."""
        if self.options.port is not None or self.port == self.usual:
            return None
        return (
            f"Another program has port {self.usual}, the usual one of this store's editor. What a browser "
            "could not save there waits in it until that port is free and the editor is started anew."
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self.listener.listen(QUEUE)
            self.when_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        self.at_end.close()  # here, as the signal that ended the server ends the process after this

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            super().run(sockets or [self.listener])
        finally:
            self.listener.close()
            self.session.close()
            self.at_end.close()


def serve(options: EditorOptions) -> None:
    """Serve the editor until Ctrl-C; prints its address when it is ready."""
    server = Server(options)

    def announce() -> None:
        port = server.port
        print(f"Editor: {server.link}", flush=True)
        if options.host in ANY_HOST:
            print(f"From another computer: with the same token, by a name given as --allow_host NAME:{port}")
        else:
            to = f"{login_name()}@{socket.gethostname()}"
            print(f"From another computer, first: ssh -L {port}:{options.host}:{port} {to}")
        print(f"Edits are saved in {options.edits} by themselves. Ctrl-C ends the editor.", flush=True)
        if server.notice:
            print(server.notice, flush=True)
        if not options.no_browser and has_screen():
            _open_browser(server)

    server.when_ready = announce
    with suppress(KeyboardInterrupt):
        server.run()
    print(f"\nThe editor has ended; every edit that it called saved was written to {options.edits}.")


_shown: dict[Path, tuple[Server, threading.Thread]] = {}  # the editors of this process, by their stores


def show(run: str, height: int = 900, address: str | None = None, **options) -> "IFrame":
    """The editor inside a notebook; it runs until the notebook's process ends or the store is shown anew.

    Args:
        run: the run's folder, result/<RUNS_NAME>.
        height: of the frame, in pixels.
        address: where the browser reaches the server, if not at http://127.0.0.1:PORT/; "{port}" in it is
            replaced, as in "/proxy/{port}/". The name it is reached under then goes into `allow_host`.
        **options: further fields of `EditorOptions`, such as edits, split or port (default: the store's own).
    """
    from IPython.display import IFrame  # comes with every notebook, and nothing else needs it

    options = EditorOptions(run, **options)
    store = Path(options.edits).resolve()
    if store in _shown:  # the cell is run again
        server, thread = _shown.pop(store)
        server.should_exit = True
        thread.join()
    server, ready = Server(options, NOTEBOOK), threading.Event()
    server.when_ready = ready.set
    thread = threading.Thread(target=server.run, name="editor", daemon=True)
    thread.start()
    while not ready.wait(0.1):
        if not thread.is_alive():
            raise UserError("the editor did not start; the reason stands above")
    _shown[store] = server, thread
    if server.notice:
        print(server.notice)
    address = (address or server.address).format(port=server.port)
    return IFrame(f"{address}#token={server.policy.token}", width="100%", height=height)


def _open_browser(server: Server) -> None:
    """Open the page beside the server's work; the file that leads there lies as long as the server runs."""
    try:
        file = server.at_end.enter_context(start_page(server.link))
    except OSError as error:
        print(f"warning: no browser is opened ({error}); open the address above", file=sys.stderr)
        return
    threading.Thread(target=webbrowser.open, args=(file.as_uri(),), daemon=True).start()
