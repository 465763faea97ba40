"""Every place to write to is tried before the work begins, and nothing that is there is lost."""

import os
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

LONG = "n" * 300
FILES = {  # scripts and their options that name a file to write, beside what they need to start
    "train_covid19.py": (["--weights", "none"], ["--plot", "--model", "--metrics", "--report"]),
    "evaluate_covid19.py": (["--model", "none"], ["--json", "--report"]),
    "predict_covid19.py": (["--model", "none", "data"], ["--csv", "--json"]),
    "audit_dataset.py": ([], ["--json"]),
}
FOLDERS = {
    "make_demo_dataset.py": ([], ["--output"]),
    "sample_kaggle_dataset.py": (["--kaggle", "kaggle", "--sample", "2"], ["--output"]),
    "build_covid_dataset.py": (
        ["--covid", "clone", "--output", "made"],
        ["--output", "--controls"],
    ),
    "build_external_dataset.py": (["--source", "covidgr", "--input", "data"], ["--output"]),
    "predict_covid19.py": (["--model", "none", "data"], ["--explain"]),
}
SUFFIX = {"--plot": ".png", "--model": ".keras"}


def options(scripts):
    return [(name, option) for name, (_, options) in scripts.items() for option in options]


@pytest.fixture
def place(tmp_path, picture):
    """A folder with a data set to read and every kind of thing that no file can be written to."""
    for folder in ("folder", "data/covid", "data/normal", "kaggle/train/NORMAL", "clone/images"):
        (tmp_path / folder).mkdir(parents=True)
    table = "patientid,finding,view,filename\n1,COVID-19,PA,1.png\n2,SARS,PA,2.png\n"
    (tmp_path / "clone" / "metadata.csv").write_text(table)
    for i in (1, 2):
        (tmp_path / "clone" / "images" / f"{i}.png").write_bytes(picture(i))
        (tmp_path / "data" / ("covid", "normal")[i - 1] / "x.png").write_bytes(picture(i))
        (tmp_path / f"kaggle/train/NORMAL/IM-{i}-1.png").write_bytes(picture(i))
    (tmp_path / "file").write_text("earlier")
    return tmp_path


def refused(script, place, name, before, *arguments):
    """The one line that says why a script did not begin; nothing has changed, nothing was done."""
    was = {path: path.is_file() and path.read_bytes() for path in place.rglob("*")}
    data = [] if name in FOLDERS else ["--dataset", "data"]
    done = script(name, *data, *before, *arguments, cwd=place)
    lines = done.stderr.splitlines()
    assert (done.returncode, done.stdout, len(lines)) == (2, "", 1), done.stderr
    assert {path: path.is_file() and path.read_bytes() for path in place.rglob("*")} == was
    assert lines[0].startswith("error: ") and "; " in lines[0]
    return lines[0]


@pytest.mark.parametrize(("name", "option"), options(FILES))
@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("folder", "folder: is a folder; give"),
        ("gone/x", "gone: no such folder for x"),
        ("file/x", "file: no such folder for x"),
        (LONG, "File name too long"),
        ("n" * 250, "File name too long"),
    ],
    ids=["folder", "gone", "file", "long", "longer-beside-it"],
)
def test_a_file_that_cannot_be_written_is_said_first(script, place, name, option, where, said):
    suffix = SUFFIX.get(option, "")
    if where == "folder" and suffix:
        (place / "folder").rename(place / f"folder{suffix}")
    said = said.replace("folder: is", f"folder{suffix}: is").replace("x", f"x{suffix}")
    assert said in refused(script, place, name, FILES[name][0], option, where + suffix)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has none")
@pytest.mark.parametrize(("name", "option"), options(FILES))
def test_a_device_or_a_pipe_is_not_replaced_by_a_file(script, place, name, option):
    pipe = place / f"pipe{SUFFIX.get(option, '')}"
    os.mkfifo(pipe)
    assert "is a device or a pipe; give" in refused(
        script, place, name, FILES[name][0], option, pipe.name
    )
    assert pipe.is_fifo()


@pytest.mark.parametrize(("name", "option"), options(FOLDERS))
@pytest.mark.parametrize(
    ("where", "said"),
    [("file", "file"), ("file/x", "file/x"), (LONG, "File name too long")],
    ids=["file", "file-above", "long"],
)
def test_a_folder_that_cannot_be_made_is_said_first(script, place, name, option, where, said):
    assert said in refused(script, place, name, FOLDERS[name][0], option, where)


@pytest.mark.skipif(os.name == "nt", reason="there, links are for administrators")
@pytest.mark.parametrize(("name", "option"), options(FOLDERS)[:-1])
def test_a_link_is_not_filled_and_stays(script, place, name, option):
    (place / "link").symlink_to("nowhere")
    if name in ("make_demo_dataset.py", "build_external_dataset.py"):
        assert "link" in refused(script, place, name, FOLDERS[name][0], option, "link")
    else:
        assert "not a plain folder" in refused(
            script, place, name, FOLDERS[name][0], option, "link"
        )
    assert (place / "link").is_symlink()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("train_covid19.py", ["--plot", "x.png", "--report", "./x.png"]),
        ("train_covid19.py", ["--metrics", "x", "--report", "../{0}/x"]),
        ("train_covid19.py", ["--weights", "file", "--report", "file"]),
        ("evaluate_covid19.py", ["--model", "file", "--json", "file"]),
        ("evaluate_covid19.py", ["--model", "none", "--json", "x", "--report", "x"]),
    ],
)
def test_no_output_overwrites_an_input_or_another_output(script, place, name, arguments):
    arguments = [argument.format(place.name) for argument in arguments]
    assert "is needed for something else; give another name" in refused(
        script, place, name, [], *arguments
    )


@pytest.mark.parametrize("plot", ["plot", "plot.txt", "plot.keras"])
def test_a_plot_of_a_kind_that_cannot_be_drawn_is_said_before_the_training(script, place, plot):
    said = refused(script, place, "train_covid19.py", [], "--plot", plot)
    assert "file name must end in .png" in said


def as_owner(place, *command):
    """Run a script without root's right to pass over permissions."""
    plain = (
        ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    )
    if plain and not shutil.which("setpriv"):
        pytest.skip("root may write everywhere")
    command = [*plain, sys.executable, *command]
    return subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("audit_dataset.py", ["--dataset", "data", "--json", "read-only/x"]),
        ("make_demo_dataset.py", ["--output", "read-only/x"]),
        (
            "train_covid19.py",
            ["--dataset", "data", "--metrics", "read-only/x", "-p", "read-only/p.png"],
        ),
        ("predict_covid19.py", ["--model", "none", "--explain", "read-only/x", "data"]),
        ("predict_covid19.py", ["--model", "none", "--explain", "read-only", "data"]),
    ],
)
def test_a_read_only_folder_is_said_first_and_stays_as_it_was(place, name, arguments):
    (place / "read-only").mkdir()
    (place / "read-only" / "earlier").write_text("earlier")
    (place / "read-only").chmod(0o555)
    done = as_owner(place, ROOT / name, *arguments)
    lines = done.stderr.splitlines()
    assert (done.returncode, done.stdout, len(lines)) == (2, "", 1), done.stderr
    assert "read-only" in lines[0] and "Permission denied" in lines[0]
    assert [path.name for path in (place / "read-only").iterdir()] == ["earlier"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
def test_a_folder_that_may_not_be_read_is_one_line(place):
    (place / "data" / "covid").chmod(0)
    done = as_owner(place, ROOT / "audit_dataset.py", "--dataset", "data")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "covid" in done.stderr and "Permission denied; check" in done.stderr


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("train_covid19.py", ["--dataset", LONG]),
        ("train_covid19.py", ["--dataset", ROOT / "dataset", "--weights", LONG]),
        ("build_covid_dataset.py", ["--covid", "clone", "--output", "x", "--metadata", LONG]),
    ],
)
def test_an_input_whose_name_is_too_long_is_one_line(place, script, name, arguments):
    done = script(name, *arguments, cwd=place)
    errors = [line for line in done.stderr.splitlines() if "[INFO]" not in line]
    assert (done.returncode, len(errors)) == (2, 1)
    assert LONG in errors[0]
