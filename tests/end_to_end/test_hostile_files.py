"""Whatever is in a file: no code of it runs, no other file is touched, and it is refused in one line."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.lift.outputs.files import make_file_name
from pipeline.system import archives
from pipeline.system.archives import read_confined
from pipeline.system.errors import UserError
from tests.trials.bad_readers import doubles, ends, fills, turns
from tests.trials.hostile_files import HOSTILE, READ

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.mishaps
def test_no_hostile_file_does_more_than_be_refused_in_one_line() -> None:
    """All in a process that is watched and may take 512 MiB more than it has (watch.py)."""
    command = [sys.executable, "-m", "tests.trials.hostile_files"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    ended = {name: (kind, line) for name, kind, line, _ in map(json.loads, answer.stdout.splitlines())}
    assert list(ended) == list(HOSTILE), answer.stderr[-2000:]
    assert len(ended) >= 180
    for name, (_, _, says) in HOSTILE.items():
        kind, line = ended[name]
        wanted = "read" if says is READ else "refused"
        assert kind == wanted, f"{name}: {kind}: {line}"
        assert says is READ or re.search(says, line), f"{name}: {line}"


BAD_READERS = {
    "os.system('true')": "os.system",
    "__import__('subprocess').run(['true'])": "subprocess.Popen",
    "eval('1' + ' + 1')": "runs code of <string>",
    "open('/etc/passwd')": "opens /etc/passwd",
    "open('/tmp/elsewhere', 'w')": "opens /tmp/elsewhere to write",
    "__import__('shutil').rmtree('/tmp/elsewhere')": "/tmp/elsewhere",
    "__import__('pickle').loads(b'cos\\ngetcwd\\n.')": "pickle.find_class",
    "bytes(600 << 20)": "MemoryError",
    "[][1]": "IndexError",
    "hang()": "more than 0.2 s",
    "refuse('MemoryError')": "too much memory",
}
WATCH = """
import sys; sys.path[:0] = {paths!r}
import os
from pathlib import Path
from tests.trials import watch
def hang():
    while True: pass
def refuse(text): raise watch.UserError(text)
watch.SECONDS = 0.2
watch.guard()
watch.limit_memory()
for bad in {readers!r}:
    code = compile(bad, watch.__file__, "eval")
    print(watch.outcome(lambda: eval(code), Path({folder!r})))
"""


def test_the_watch_sees_what_no_reader_may_do(tmp_path: Path) -> None:
    paths = [str(REPOSITORY)]
    program = WATCH.format(paths=paths, readers=list(BAD_READERS), folder=str(tmp_path))
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    for line, (bad, why) in zip(answer.stdout.splitlines(), BAD_READERS.items(), strict=True):
        assert line.startswith("('bad', "), bad
        assert why in line, bad
    assert not Path("/tmp/elsewhere").exists()


def test_a_refusal_is_one_line_whatever_it_quotes() -> None:
    assert str(UserError("a.npz: found 'x\n\t\x1b[2J\x00é'")) == "a.npz: found 'x  \\x1b[2J\\x00é'"
    long = str(UserError("a.npz: found " + "x" * 10**6 + " instead"))
    assert len(long) < 1000
    assert long.startswith("a.npz: found x")
    assert long.endswith("x instead")


def test_the_name_of_a_person_leads_nowhere() -> None:
    assert make_file_name("../../etc/passwd\n") == "______etc_passwd_"
    assert len(make_file_name("x" * 5000)) <= 60


def test_a_reader_that_ends_hangs_or_fills_its_process_is_a_refused_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "CPU_S", 1)
    path = tmp_path / "a.mat"
    path.touch()
    for read, found in ((ends, "found one that ends its reader"), (fills, "of memory, found more"), (turns, "and 1 s")):
        with pytest.raises(UserError, match=f"a.mat: expected .*{found}"):
            read_confined(read, path, expected="a file")
        assert read_confined(doubles, path, 1.5, expected="a file") == [3.0]
