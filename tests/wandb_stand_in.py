"""A server on 127.0.0.1 that answers wandb as W&B's does, as far as it is asked here, and keeps what it is sent."""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ENTITY = "somebody"
API_KEY = "0123456789" * 4


class StandIn(BaseHTTPRequestHandler):
    """The state is the class's; `stand_in` makes one for each server.

    Answers to what is not known here are empty, which wandb takes for a server that has nothing of the kind.
    """

    protocol_version = "HTTP/1.1"
    refuse: threading.Event  # set: the key is no longer good
    hang: threading.Event  # set: nothing is answered any more
    close: threading.Event  # set: those that hang may end
    hang_at: str | None = None  # the operation from which on nothing is answered
    delay_s = 0.0
    listener: ThreadingHTTPServer
    asked: list[tuple[str, dict[str, Any]]]  # operations of GraphQL and their variables, in order
    streams: dict[str, dict[str, dict[int, str]]]  # by run, file and line: histories and summaries
    files: dict[str, bytes]  # what was uploaded, by name
    artifacts: dict[str, dict[str, Any]]  # by id, as they were asked to be created
    sweep: str  # the configuration of the one sweep, as YAML
    trials: list[dict[str, Any]]  # what its agents are still told

    def handle(self) -> None:
        """Requests until the other side goes, which it may do without a word."""
        with suppress(ConnectionError):
            super().handle()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the terminal is the tests'."""

    def do_POST(self) -> None:
        """GraphQL, and lines of a run's files."""
        body = self._body()
        known = self.path.endswith(("/graphql", "/file_stream"))
        request = json.loads(body) if known else {}  # wandb also sends measurements of its own
        named = re.search(r"(?:query|mutation)\s+(\w+)", request.get("query", ""))
        operation, variables = named[1] if named else "", request.get("variables") or {}
        if operation == type(self).hang_at:
            self.hang.set()
        if self.hang.is_set():
            self.close.wait(60)
            self.close_connection = True
            return
        time.sleep(self.delay_s)
        if self.refuse.is_set():
            self._reply({"errors": [{"message": "unauthorized"}]}, status=401)
        elif not known:
            self._reply({})
        elif self.path == "/graphql":
            self.asked.append((operation, variables))
            self._reply({"data": self._answer(operation, variables)})
        else:
            *_, run, _ = self.path.split("/")  # /files/<entity>/<project>/<run>/file_stream
            for name, chunk in (request.get("files") or {}).items():
                lines = self.streams[run].setdefault(name, {})
                lines.update(enumerate(chunk["content"], start=chunk["offset"]))
            self._reply({})

    def do_PUT(self) -> None:
        """A file."""
        self.files[self.path.removeprefix("/upload/")] = self._body()
        self._reply({})

    def do_GET(self) -> None:
        """Nothing is kept for reading."""
        self._reply({}, status=404)

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _reply(self, content: dict[str, Any], *, status: int = 200) -> None:
        answer = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def _upload(self, name: str) -> str:
        return f"http://127.0.0.1:{self.listener.server_port}/upload/{name}"

    def _kept(self, run: str) -> dict[str, Any]:
        history = [line for _, line in sorted(self.streams[run].get("wandb-history.jsonl", {}).items())]
        summary = self.streams[run].get("wandb-summary.json", {0: "{}"})
        return {
            "id": _id(run),
            "name": run,
            "summaryMetrics": summary[max(summary)],
            "displayName": run,
            "logLineCount": 0,
            "historyLineCount": len(history),
            "eventsLineCount": 0,
            "historyTail": json.dumps(history[-1:]),
            "eventsTail": "[]",
            "config": "{}",
            "tags": [],
            "notes": "",
            "wandbConfig": '{"t": 1}',
        }

    def _answer(self, operation: str, variables: dict[str, Any]) -> dict[str, Any]:
        project = {"id": _id("project"), "name": "poselift", "entity": {"id": _id(ENTITY), "name": ENTITY}}
        match operation:
            case "Viewer":
                viewer = {"id": _id("viewer"), "entity": ENTITY, "username": ENTITY, "teams": {"edges": []}}
                return {"viewer": viewer}
            case "UpsertBucket":
                name = variables.get("name")
                bucket = {"id": _id(name), "name": name, "displayName": variables.get("displayName")}
                bucket |= {"project": project, "historyLineCount": 0}
                return {"upsertBucket": {"bucket": bucket, "inserted": True}}
            case "RunResumeStatus":
                bucket = self._kept(variables["name"]) if variables["name"] in self.streams else None
                return {"model": project | {"bucket": bucket}}
            case "CreateRunFiles":
                files = [{"name": name, "uploadUrl": self._upload(name)} for name in variables["files"]]
                return {"createRunFiles": {"runID": _id(variables["run"]), "uploadHeaders": [], "files": files}}
            case "ArtifactType":  # of the artifact of a name, if there is one
                return {"project": {"artifact": None}}
            case "CreateArtifact":
                wanted = variables["input"]
                sequence = {"id": _id(wanted["artifactCollectionName"]), "latestArtifact": None}
                artifact = {"id": _id(wanted["digest"]), "state": "PENDING", "artifactSequence": sequence}
                self.artifacts[artifact["id"]] = wanted
                return {"createArtifact": {"artifact": artifact}}
            case "ArtifactByID":
                return {"artifact": _artifact(variables["id"], self.artifacts[variables["id"]], project)}
            case "CreateArtifactManifest":
                file = {"id": "f", "uploadUrl": self._upload(variables["name"]), "uploadHeaders": []}
                return {"createArtifactManifest": {"artifactManifest": {"id": variables["artifactID"], "file": file}}}
            case "UpdateArtifactManifest":
                file = {"id": "f", "uploadUrl": self._upload(variables["artifactManifestID"]), "uploadHeaders": []}
                return {"updateArtifactManifest": {"artifactManifest": {"id": "m", "file": file}}}
            case "CommitArtifact":
                return {"commitArtifact": {"artifact": {"id": variables["artifactID"], "digest": "d"}}}
            case "UseArtifact":
                return {"useArtifact": {"artifact": {"id": variables["input"]["artifactID"]}}}
            case "UpsertSweep":
                type(self).sweep = variables["config"]
                return {
                    "upsertSweep": {"sweep": {"name": "sweep1", "project": project}, "configValidationWarnings": []}
                }
            case "SweepWithRuns":
                return {"project": {"sweep": {"name": "sweep1", "config": self.sweep, "runs": {"edges": []}}}}
            case "GetSweepState":
                return {"project": {"sweep": {"state": "RUNNING"}}}
            case "CreateAgent":
                return {"createAgent": {"agent": {"id": _id("agent")}}}
            case "Heartbeat":
                busy = "true" in variables["runState"]
                told = [] if busy else [self.trials.pop(0) if self.trials else {"type": "exit"}]
                return {"agentHeartbeat": {"agent": {"id": variables["id"]}, "commands": json.dumps(told)}}
            case "GetProjects":
                return {"models": {"edges": [], "pageInfo": {"endCursor": None, "hasNextPage": False}}}
            case "UpsertView2" | "upsertView":  # a workspace's or a report's
                view = {"id": _id(variables["name"]), "name": variables["name"], "type": variables["type"]}
                return {"upsertView": {"view": view | {key: variables[key] for key in ("displayName", "spec")}}}
        return {}


def _artifact(identity: str, created: dict[str, Any], project: dict[str, Any]) -> dict[str, Any]:
    sequence = {"__typename": "ArtifactSequence", "name": created["artifactCollectionName"]}
    return {
        "__typename": "Artifact",
        "id": identity,
        "artifactSequence": sequence | {"project": project | {"internalId": project["id"]}},
        "versionIndex": 0,
        "artifactType": {"name": created["artifactTypeName"]},
        "description": None,
        "metadata": created["metadata"],
        "ttlDurationSeconds": -1,
        "ttlIsInherited": True,
        "tags": [],
        "historyStep": None,
        "state": "COMMITTED",
        "size": 0,
        "digest": created["digest"],
        "digestAlgorithm": "MANIFEST_MD5",
        "commitHash": None,
        "fileCount": 1,
        "createdAt": "2026-01-01T00:00:00Z",
        "updatedAt": None,
    }


def _id(name: object) -> str:
    return base64.b64encode(str(name).encode()).decode()


@contextmanager
def stand_in() -> Iterator[type[StandIn]]:
    """A server that runs for the length of the `with` block; its port is that of `listener`."""

    class Handler(StandIn):
        refuse, hang, close = threading.Event(), threading.Event(), threading.Event()

    Handler.asked, Handler.trials, Handler.files, Handler.artifacts = [], [], {}, {}
    Handler.streams = defaultdict(dict)
    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Handler.listener = listener
    thread = threading.Thread(target=listener.serve_forever, daemon=True)
    thread.start()
    try:
        yield Handler
    finally:
        Handler.close.set()
        listener.shutdown()
        thread.join()
        listener.server_close()
