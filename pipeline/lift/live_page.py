"""Serves the page of a person lifted live, on this machine, and tells it of poses by server-sent events."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Empty, Full, Queue
from socket import socket
from socketserver import BaseServer
from threading import Lock, Thread

from pipeline.poses.skeleton import Skeleton
from pipeline.system.errors import UserError
from pipeline.visualization.viewer import TEMPLATES, skeleton_tree, viewer_asset, viewer_parts

log = logging.getLogger(__name__)

ADDRESS = "127.0.0.1"
SILENCE_S = 1.0  # after which a listener is asked whether it is still there


class LivePage:
    """A page on this machine that shows what is published: the standard library's server and server-sent events."""

    def __init__(self, skeletons: tuple[Skeleton, Skeleton], *, title: str, port: int) -> None:
        """Starts the server. `skeletons` are those of keypoints and of poses. Raises UserError if the port is taken."""
        in_tree, tree = map(skeleton_tree, skeletons)
        about = json.dumps({"title": title, "inSkeleton": in_tree, "skeleton": tree})
        page = TEMPLATES.get_template("live.html")
        self.html = page.render(title=title, viewer=viewer_parts(), about=about, script=viewer_asset("live.js"))
        self._listeners: list[Queue[str | None]] = []
        self._lock = Lock()
        try:
            self._server = ThreadingHTTPServer((ADDRESS, port), partial(_Handler, self))
        except OSError as error:
            found = f"{port} taken ({error.strerror}); 0 takes a free one"
            raise UserError(f"--port: expected a free port, found {found}") from error
        self._server.daemon_threads = True
        Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://{ADDRESS}:{self._server.server_port}"

    def publish(self, event: dict[str, object] | None) -> None:
        """Sends an event to all that listen, None as the last; who is slow misses events."""
        with self._lock:
            for listener in self._listeners:
                try:
                    listener.put_nowait(None if event is None else json.dumps(event))
                except Full:
                    log.debug("a listener is slow")

    def close(self) -> None:
        """Ends the page."""
        self.publish(None)
        self._server.shutdown()
        self._server.server_close()

    def listen(self) -> Iterator[str]:
        """Yields events as the browser wants them, until the last."""
        listener: Queue[str | None] = Queue(maxsize=4)
        with self._lock:
            self._listeners.append(listener)
        try:
            yield ": hello\n\n"
            while True:
                try:
                    event = listener.get(timeout=SILENCE_S)
                except Empty:
                    yield ": still here\n\n"
                    continue
                yield "event: end\ndata: {}\n\n" if event is None else f"data: {event}\n\n"
                if event is None:
                    return
        finally:
            with self._lock:
                self._listeners.remove(listener)


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, page: LivePage, request: socket, address: tuple[str, int], server: BaseServer) -> None:
        self._page = page
        super().__init__(request, address, server)  # which handles the request

    def do_GET(self) -> None:
        """Answers / with the page and /events with what is published, as it is."""
        if self.path == "/":
            self._begin("text/html; charset=utf-8")
            self.wfile.write(self._page.html.encode())
        elif self.path == "/events":
            self._begin("text/event-stream")
            try:
                for event in self._page.listen():
                    self.wfile.write(event.encode())
                    self.wfile.flush()
            except OSError:
                log.debug("a listener has left")
        else:
            self.send_error(404)

    def _begin(self, content_type: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Cache-Control", "no-store")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Logs requests where they are asked for; the terminal stays quiet."""
        log.debug(format, *args)
