"""CI and who wants it install exactly what was tried, byte by byte."""

import re

import pytest
from conftest import ROOT

LOCKS = {
    "requirements.lock": ["requirements.txt"],
    "requirements-dev.lock": [
        *("requirements.txt", "requirements-dev.txt", "requirements-app.txt"),
        *("requirements-cluster.txt", "requirements-jax.txt"),
    ],
    ".ci/build.lock": [],
}
PINNED = re.compile(r"^([a-z0-9._-]+)(?:\[.*?\])?==([^\s;]+)", re.IGNORECASE | re.MULTILINE)


def entries(lock):
    """(name, version) -> number of hashes, of a lock file."""
    found, parts = {}, re.split(r"\n(?=[a-z])", (ROOT / lock).read_text().replace("\\\n", ""))
    for part in parts:
        if match := PINNED.search(part):
            found[match[1].lower(), match[2]] = len(
                re.findall(r"--hash=sha256:[0-9a-f]{64}\b", part)
            )
    return found


@pytest.mark.parametrize(
    ("lock", "name"), [(lock, name) for lock, names in LOCKS.items() for name in names]
)
def test_the_lock_names_every_requirement_at_its_version_with_a_hash(lock, name):
    wanted = PINNED.findall((ROOT / name).read_text())
    lines = [line for line in (ROOT / name).read_text().splitlines() if line[:1].isalpha()]
    assert len(wanted) == len(lines) > 0
    assert {(package.lower(), version) for package, version in wanted} <= entries(lock).keys()


@pytest.mark.parametrize("lock", LOCKS)
def test_every_line_of_a_lock_is_a_version_with_hashes_and_no_place_to_fetch_from(lock):
    text = (ROOT / lock).read_text()
    assert len(entries(lock)) == len(re.findall(r"^[a-z]", text, re.MULTILINE)) > 2
    assert min(entries(lock).values()) > 0
    assert not re.search(r"://|index-url|find-links|file:|@|\.(org|com|net|local)\b", text)


def test_both_locks_name_the_same_versions():
    assert entries("requirements.lock").keys() <= entries("requirements-dev.lock").keys()
    assert entries(".ci/build.lock").keys() <= entries("requirements-dev.lock").keys()


def test_ci_installs_from_the_locks_alone():
    text = (ROOT / ".ci" / "run").read_text().replace("\\\n", "")
    installs = [line for line in text.splitlines() if "pip install" in line]
    assert len(installs) == 2
    for line in installs:
        assert re.search(r"--require-hashes --no-deps .*-r \S+\.lock$", line)
