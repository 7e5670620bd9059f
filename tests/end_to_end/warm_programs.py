"""`poselift`, `dvc` and `python -m pipeline` without seconds of imports: one process has them and forks for each.

    python warm_programs.py ADDRESS

serves at the socket ADDRESS. `write_programs` makes the programs, which hand their arguments, folder, environment and
files over and end as the fork ends. Whatever else is asked of `python` goes to the real one.
"""

from __future__ import annotations

import atexit
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
CLIENT = """#!{python} -IS
import json, os, signal, socket, sys
name, words = os.path.basename(sys.argv[0]), sys.argv[1:]
if name == "python":
    if words[:1] != ["-m"] or words[1:2] not in (["pipeline"], ["dvc"]):
        os.execv("{python}", ["{python}", *words])
    name, words = words[1], words[2:]
with socket.socket(socket.AF_UNIX) as server:
    server.connect("{address}")
    asked = json.dumps([name, words, os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(server, [len(asked).to_bytes(8, "big")], [0, 1, 2])
    server.sendall(asked)
    answers = server.makefile()
    number = int(answers.readline())
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, lambda stop, _: os.kill(number, stop))
    code = answers.readline()
sys.exit(int(code) if code else 137)
"""
NAMES = ("poselift", "dvc", "python")


@contextmanager
def warm_programs(folder: Path) -> Iterator[None]:
    """The programs, in the new folder, as long as the block runs."""
    folder.mkdir()
    (folder / "activate").write_text('export PATH="$PWD/.venv/bin:$PATH"\n', encoding="utf-8")
    address = folder / "socket"
    for name in NAMES:
        (folder / name).write_text(CLIENT.format(python=sys.executable, address=address), encoding="utf-8")
        (folder / name).chmod(0o755)
    command = [sys.executable, "-m", "tests.end_to_end.warm_programs", str(address)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=REPOSITORY) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == b"ready\n"
            yield
        finally:
            server.kill()


def _remember_parsed_yaml() -> None:
    """Parse no text twice: dvc spends most of its time on reading the same files with a parser written in Python."""
    from ruamel.yaml import YAML

    load, known = YAML.load, {}

    def remembering(yaml: YAML, stream: object) -> object:
        if not isinstance(stream, str) or yaml.typ != ["safe"]:
            return load(yaml, stream)
        if stream not in known:
            known[stream] = pickle.dumps(load(yaml, stream))
        return pickle.loads(known[stream])

    YAML.load = remembering


def _reap(*_: object) -> None:
    """Take note of the forks that ended."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass


def main(address: str) -> None:
    """Answer until killed."""
    sys.path[0] = str(REPOSITORY)
    _remember_parsed_yaml()
    import dvc.cli
    import dvc.repo.experiments
    import dvc.repo.reproduce
    import torch

    import pipeline.evaluate_5runs.stage
    import pipeline.prepare_data.stage
    import pipeline.report.board
    import pipeline.report.stage
    import pipeline.train.stage  # noqa: F401
    from pipeline.__main__ import main as poselift
    from pipeline.config.params import load_params

    torch.set_num_threads(1)
    load_params(REPOSITORY / "params.yaml")  # torch imports more when it makes the first model
    programs: dict[str, Callable[[], int | None]] = {"poselift": poselift, "pipeline": poselift, "dvc": dvc.cli.main}
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen(64)
        signal.signal(signal.SIGCHLD, _reap)
        print("ready", flush=True)
        while True:
            client, _ = server.accept()
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
                server.close()
                _run(client, programs)
            client.close()


def _run(client: socket.socket, programs: dict[str, Callable[[], int | None]]) -> None:
    """The program that the client asks for, in this process, which it ends."""
    size, files, _, _ = socket.recv_fds(client, 8, 3)
    with client.makefile("rb", buffering=0) as stream:
        asked = b""
        while len(asked) < int.from_bytes(size, "big"):
            asked += stream.read(int.from_bytes(size, "big") - len(asked))
    name, words, folder, environment = json.loads(asked)
    for place, file in enumerate(files):
        os.dup2(file, place)
        os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [name, *words]
    client.sendall(f"{os.getpid()}\n".encode())
    code: object = 1
    try:
        code = programs[name]()
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
    if isinstance(code, str):
        print(code, file=sys.stderr)
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    number = int(code) if isinstance(code, int) else int(code is not None)
    client.sendall(f"{number}\n".encode())
    os._exit(number)


if __name__ == "__main__":
    main(sys.argv[1])
