"""The page of what a folder knows now: training that goes on, results, experiments; live on 127.0.0.1, or as one file.

It reads what DVC and wandb wrote and keeps nothing of its own.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import socket
from socketserver import BaseServer

from pipeline.report.experiments import list_modified, read_experiments, state_of_experiments
from pipeline.report.page import (
    RowRecord,
    Sections,
    experiments_section,
    mark_of,
    results_section,
    training_section,
    whole_page,
)
from pipeline.report.stage import group_records, list_table_rows, read_record
from pipeline.report.training_runs import ReadFiles, collect_curves, find_training_runs
from pipeline.system.errors import UserError
from pipeline.system.files import write_text

log = logging.getLogger(__name__)

RESULT_FILES = ("params.yaml", "dvc.yaml", "reports/*/*.json", "reports/*/*.csv", "data/prepared/*/manifest.json")
ADDRESS = "127.0.0.1"


class SectionReader:
    """Reads the sections of the page as they are now; what has not changed on disk is not read again."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._files: ReadFiles = {}
        self._sections: dict[str, tuple[object, str]] = {}  # by name: the state of the files, and what came of them
        self._lock = threading.Lock()

    def read(self) -> Sections:
        """Returns the HTML of every section by its name."""
        with self._lock:
            runs = find_training_runs(self._root, self._files)
            return {
                "training": training_section(runs, collect_curves(runs)),
                "results": self._unless_known("results", _state_of_results(self._root), _make_results),
                "experiments": self._unless_known("experiments", state_of_experiments(self._root), _make_experiments),
            }

    def _unless_known(self, name: str, state: object, make: Callable[[Path], str]) -> str:
        if name not in self._sections or self._sections[name][0] != state:
            self._sections[name] = (state, make(self._root))
        return self._sections[name][1]


class BoardHandler(BaseHTTPRequestHandler):
    """Answers a browser with the page, and later with the sections that have changed."""

    def __init__(self, reader: SectionReader, request: socket, address: tuple[str, int], server: BaseServer) -> None:
        self._reader = reader
        super().__init__(request, address, server)  # which handles the request

    def do_GET(self) -> None:
        """Answers / with the page, and /changed?MARK,MARK with the sections whose marks the browser does not have."""
        path, _, query = self.path.partition("?")
        if path == "/":
            self._answer(whole_page(self._reader.read(), live=True), "text/html; charset=utf-8")
        elif path == "/changed":
            marked = {name: {"mark": mark_of(html), "html": html} for name, html in self._reader.read().items()}
            changed = {name: section for name, section in marked.items() if section["mark"] not in query.split(",")}
            self._answer(json.dumps(changed), "application/json")
        else:
            self.send_error(404)

    def _answer(self, text: str, content_type: str) -> None:
        content = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Logs requests where they are asked for; the terminal stays quiet."""
        log.debug(format, *args)


def write_board(root: Path, out: Path) -> str:
    """Writes the page as one file that needs nothing else; returns a line that says so.

    Raises UserError if `root` is no folder of this project, or `out` is not to be an HTML file.
    """
    _refuse_other_folders(root)
    if out.suffix != ".html":
        raise UserError(f"--out: expected a name that ends in .html, found {out}")
    write_text(out, whole_page(SectionReader(root).read(), live=False))
    return f"{out} ({out.stat().st_size / 1e6:.1f} MB, needs no network)"


def board_server(root: Path, port: int) -> ThreadingHTTPServer:
    """Returns a server of the live page on 127.0.0.1, not yet started; port 0 takes a free one.

    Raises UserError if `root` is no folder of this project, or the port is taken.
    """
    _refuse_other_folders(root)
    try:
        return ThreadingHTTPServer((ADDRESS, port), partial(BoardHandler, SectionReader(root)))
    except OSError as error:
        raise UserError(
            f"--port: expected a free port, found {port} taken ({error.strerror}); 0 takes a free one"
        ) from error


def _refuse_other_folders(root: Path) -> None:
    for name in ("params.yaml", "dvc.yaml"):
        if not (root / name).is_file():
            raise UserError(f"{root / name}: expected the folder of the project, found no such file")


def _state_of_results(root: Path) -> list[tuple[str, int]]:
    return list_modified(path for pattern in RESULT_FILES for path in sorted(root.glob(pattern)))


def _make_experiments(root: Path) -> str:
    return experiments_section(*read_experiments(root))


def _make_results(root: Path) -> str:
    """Returns the section of the rows. A row whose files are missing or damaged is a line that says so."""
    records: list[RowRecord] = []
    complaints = []
    try:
        rows = list_table_rows(params_path=root / "params.yaml", dvc_yaml=root / "dvc.yaml")
    except UserError as error:
        return results_section([], [str(error)])
    for row in rows:
        try:
            records.append(read_record(row, reports=root / "reports", prepared=root / "data" / "prepared"))
        except UserError as error:
            complaints.append(f"{row} is left out: {error}")
    return results_section(group_records(records), complaints)
