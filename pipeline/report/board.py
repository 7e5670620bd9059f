"""A page of all that a folder knows: training that goes on, results, experiments; live on 127.0.0.1, or as one file.

It reads what DVC and wandb wrote and keeps nothing of its own.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from string import Template
from typing import Any

from pipeline.report.board_page import experiments_section, rows_section, runs_section
from pipeline.report.experiments import experiments, state_of_experiments
from pipeline.report.page import RowRecord, asset, vega_libraries
from pipeline.report.stage import group_records, list_table_rows, read_record
from pipeline.report.training_runs import Parsed, series_of, training_runs
from pipeline.system.errors import UserError
from pipeline.system.files import write_text
from pipeline.visualization.viewer import viewer_parts

log = logging.getLogger(__name__)

Sections = dict[str, str]  # HTML by the id of its element
REPORTED = ("params.yaml", "dvc.yaml", "reports/*/*.json", "reports/*/*.csv", "data/prepared/*/manifest.json")
ADDRESS = "127.0.0.1"


def board_reader(root: Path) -> Callable[[], Sections]:
    """A function that gives the sections of the board as they are now; what has not changed is not read again."""
    parsed: Parsed = {}
    kept: dict[str, tuple[Any, str]] = {}
    lock = threading.Lock()

    def section(name: str, state: Any, make: Callable[[], str]) -> str:
        if name not in kept or kept[name][0] != state:
            kept[name] = (state, make())
        return kept[name][1]

    def read() -> Sections:
        with lock:
            return {
                "training": _training(root, parsed),
                "results": section("results", _state_of_reports(root), lambda: _results(root)),
                "experiments": section(
                    "experiments", state_of_experiments(root), lambda: experiments_section(*experiments(root))
                ),
            }

    return read


def board_page(sections: Sections, *, live: bool) -> str:
    """The whole page. With `live` it asks its server every two seconds for what has changed, else it asks nobody."""
    parts = viewer_parts()
    content = "\n".join(f'<section id="{name}">{section}</section>' for name, section in sections.items())
    page = Template(asset("board.html"))
    return page.substitute(
        content=content,
        marks=json.dumps(_marks(sections)),
        live=json.dumps(live),
        css=asset("results.css"),
        board_css=asset("board.css"),
        charts_js=asset("charts.js"),
        board_js=asset("board.js"),
        vega=vega_libraries(),
        viewer_css=parts.css,
        viewer_js=parts.js,
    )


def write_board(root: Path, out: Path) -> str:
    """Write the board as one file that needs nothing else; returns a line that says so.

    Raises UserError if `root` is no folder of this project, or `out` is not to be an HTML file.
    """
    _refuse_other_folders(root)
    if out.suffix != ".html":
        raise UserError(f"--out: expected a name that ends in .html, found {out}")
    write_text(out, board_page(board_reader(root)(), live=False))
    return f"{out} ({out.stat().st_size / 1e6:.1f} MB, needs no network)"


def board_server(root: Path, port: int) -> ThreadingHTTPServer:
    """A server of the live board on 127.0.0.1, not yet started; port 0 takes a free one.

    Raises UserError if `root` is no folder of this project, or the port is taken.
    """
    _refuse_other_folders(root)
    read = board_reader(root)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/":
                self._answer(board_page(read(), live=True), "text/html; charset=utf-8")
            elif self.path.startswith("/changed"):
                sections = read()
                known = set(self.path.partition("?")[2].split(","))
                changed = {
                    name: {"mark": mark, "html": sections[name]}
                    for name, mark in _marks(sections).items()
                    if mark not in known
                }
                self._answer(json.dumps(changed), "application/json")
            elif self.path == "/favicon.ico":
                self.send_response(204)
                self.end_headers()
            else:
                self.send_error(404)

        def _answer(self, text: str, kind: str) -> None:
            content = text.encode()
            self.send_response(200)
            for name, value in {
                "Content-Type": kind,
                "Content-Length": len(content),
                "Cache-Control": "no-store",
            }.items():
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            log.debug(format, *args)

    try:
        return ThreadingHTTPServer((ADDRESS, port), Handler)
    except OSError as error:
        raise UserError(
            f"--port: expected a free port, found {port} taken ({error.strerror}); 0 takes a free one"
        ) from error


def _refuse_other_folders(root: Path) -> None:
    for name in ("params.yaml", "dvc.yaml"):
        if not (root / name).is_file():
            raise UserError(f"{root / name}: expected the folder of the project, found no such file")


def _marks(sections: Sections) -> dict[str, str]:
    return {name: hashlib.sha256(text.encode()).hexdigest()[:12] for name, text in sections.items()}


def _training(root: Path, parsed: Parsed) -> str:
    runs = training_runs(root, parsed)
    return runs_section(runs, series_of(runs))


def _state_of_reports(root: Path) -> list[tuple[str, int]]:
    paths = (path for pattern in REPORTED for path in sorted(root.glob(pattern)))
    return [(str(path), path.stat().st_mtime_ns) for path in paths]


def _results(root: Path) -> str:
    """The section of the rows. A row whose files are missing or damaged is a line that says so."""
    records: list[RowRecord] = []
    complaints = []
    try:
        rows = list_table_rows(params_path=root / "params.yaml", dvc_yaml=root / "dvc.yaml")
    except UserError as error:
        return rows_section([], [str(error)])
    for row in rows:
        try:
            records.append(read_record(row, reports=root / "reports", prepared=root / "data" / "prepared"))
        except UserError as error:
            complaints.append(f"{row} is left out: {error}")
    return rows_section(group_records(records), complaints)
