"""What a fuzzer has tried, and what it found, is tried again; `-m release` lets it look further."""

import re
import subprocess
import sys

import pytest
from fuzz.fuzz import CORPUS, TARGETS, reader

SEEDS = [(path.parent.name, path) for path in sorted(CORPUS.glob("*/*"))]


@pytest.fixture(scope="module")
def readers():
    return {name: reader(name) for name in TARGETS}


@pytest.mark.parametrize(("name", "path"), SEEDS, ids=[f"{n}-{path.name}" for n, path in SEEDS])
def test_a_file_is_read_or_refused_in_a_line(readers, name, path):
    readers[name](path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_each_reader_takes_or_refuses_what_is_no_file_at_all(readers, name):
    for content in (b"", b"\0", b"\0" * 5000, b"\xff\xfe" * 100, bytes(range(256)) * 10):
        readers[name](content)


def test_the_corpus_is_small_and_has_seeds_of_every_target():
    assert {name for name, _ in SEEDS} == set(TARGETS)
    assert sum(path.stat().st_size for _, path in SEEDS) < 300_000


@pytest.mark.release
@pytest.mark.long
@pytest.mark.parametrize("name", TARGETS)
def test_a_fuzzer_finds_nothing_in_some_seconds(tmp_path, name):
    pytest.importorskip("atheris")
    command = [sys.executable, CORPUS.parent / "fuzz.py", name, "10"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]  # the traceback is on stdout
    assert int(re.search(r"Done (\d+) runs", done.stderr)[1]) > 20
    assert list(tmp_path.iterdir()) == []
