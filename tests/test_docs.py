"""The documentation agrees with the code."""

import re
import subprocess
import sys
import tomllib

from conftest import ROOT
from packaging.requirements import Requirement


def test_options_and_architecture_are_those_of_the_code():
    command = [sys.executable, "docs/generate.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_pinned_version_lies_in_the_range_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {
        "requirements.txt": project["dependencies"],
        "requirements-cluster.txt": project["optional-dependencies"]["cluster"],
        "requirements-jax.txt": project["optional-dependencies"]["jax"],
        "requirements-app.txt": project["optional-dependencies"]["app"],
    }
    for name, ranges in wanted.items():
        lines = (ROOT / name).read_text().splitlines()
        pins = [Requirement(line) for line in lines if line and line[0] not in "-#"]
        allowed = {one.name: one.specifier for one in map(Requirement, ranges)}
        assert {pin.name for pin in pins} == set(allowed)
        for pin in pins:
            (version,) = [one.version for one in pin.specifier]
            assert version in allowed[pin.name], f"{name}: {pin}"


def test_every_link_of_the_documentation_leads_to_a_file():
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    for page in pages:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_every_test_named_in_the_documentation_exists():
    for page in (*(ROOT / "docs").glob("*.md"), ROOT / "SECURITY.md"):
        path = page  # a test belongs to the file that was named last
        for file, name in re.findall(r"(test_\w+\.py)|::(test_\w+)", page.read_text()):
            if file:
                path = ROOT / "tests" / file
                assert path.is_file(), f"{page.name}: tests/{file}"
            else:
                assert f"def {name}(" in path.read_text(), f"{page.name}: {path.name}::{name}"
