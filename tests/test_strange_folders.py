"""What real folders hold: damaged and disguised images, odd names, links, pipes, odd layouts.

Every script that reads images meets them; none may crash, hang, or take half a picture for one.
"""

import csv
import io
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import zlib

import numpy as np
import pydicom
import pytest
from conftest import ROOT
from PIL import Image
from test_dicom import save_dicom

from covidxray.data.folders import list_images, list_tree
from covidxray.data.images import read_image
from covidxray.data.loading import load_dataset
from covidxray.errors import InputError

SALT = b"of the tests"
RAMP = np.tile(np.arange(256, dtype=np.uint8), (256, 1))
DRAWINGS = sorted((ROOT / "dataset" / "covid").glob("*.jpg"))
posix = pytest.mark.skipif(sys.platform == "win32", reason="no pipes, and names are always text")


def encoded(kind, image=None, **options):
    """An image's bytes in a format; by default a picture that varies everywhere."""
    if image is None:
        noise = np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8)
        image = Image.fromarray(noise).resize((300, 260), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png_of(width, height, bits=8):
    """A PNG file whose header claims any size, with a few bytes of pixels."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    parts = chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(bytes(1000))), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


# --- Images


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.dcm", "x.gif", "x.webp", "x.tif"])
@pytest.mark.parametrize(
    "content", [b"", b"\0", b"no picture\n", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"]
)
def test_what_only_its_name_calls_an_image_is_refused_with_the_remedy(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(
        InputError, match=rf"{name}: is not an image that can be decoded; remove it"
    ):
        read_image(tmp_path / name)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("GIF", {}),
        ("WEBP", {}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
    ],
)
def test_a_file_cut_short_is_no_image(tmp_path, kind, options, kept):
    content = encoded(kind, **options)
    (tmp_path / "x").write_bytes(content[: int(kept * len(content))])
    with pytest.raises(InputError, match="not an image that can be decoded"):
        read_image(tmp_path / "x")


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF"])
def test_a_copy_broken_off_in_a_file_of_full_length_is_no_image(tmp_path, kind, kept):
    content = encoded(kind)
    at = int(kept * len(content))
    (tmp_path / "x").write_bytes(content[:at] + bytes(len(content) - at))
    with pytest.raises(InputError, match="not an image that can be decoded"):
        read_image(tmp_path / "x")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"])
@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.dcm", "x"])
def test_a_wrong_name_changes_nothing(tmp_path, kind, name):
    content = encoded(kind, Image.fromarray(RAMP))
    (tmp_path / name).write_bytes(content)
    assert np.abs(read_image(tmp_path / name).astype(int) - _squeezed(RAMP)).max() <= 8


def _squeezed(grey):
    small = Image.fromarray(grey).resize((224, 224), Image.Resampling.BOX)
    return np.asarray(small)[..., None].astype(int)


def test_black_and_white_stays_so(tmp_path):
    content = encoded("PNG", Image.fromarray(RAMP).point(lambda v: 255 * (v > 127)).convert("1"))
    (tmp_path / "x.png").write_bytes(content)
    pixels = read_image(tmp_path / "x.png")
    assert (pixels[:, :100] == 0).all()
    assert (pixels[:, -100:] == 255).all()


@pytest.mark.parametrize("bits", [8, 16])
def test_what_is_transparent_is_black(tmp_path, bits):
    grey, clear = Image.new("L", (64, 64), 200), Image.new("L", (64, 64), 255)
    clear.paste(0, (0, 0, 32, 64))
    image = Image.merge("LA", (grey, clear))
    image = image if bits == 8 else image.convert("RGBA")
    (tmp_path / "x.png").write_bytes(encoded("PNG", image))
    pixels = read_image(tmp_path / "x.png")
    assert (pixels[:, :100] == 0).all()
    assert (pixels[:, -100:] == 200).all()


def test_an_inverted_cmyk_jpeg_is_what_its_picture_is(tmp_path):
    image = Image.merge("CMYK", [Image.new("L", (64, 64), 0)] * 3 + [Image.new("L", (64, 64), 55)])
    (tmp_path / "x.jpg").write_bytes(encoded("JPEG", image))
    assert np.abs(read_image(tmp_path / "x.jpg").astype(int) - 200).max() <= 3


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_picture_is_taken(tmp_path, kind):
    first, second = Image.new("L", (64, 64), 40), Image.new("L", (64, 64), 200)
    content = encoded(kind, first, save_all=True, append_images=[second])
    (tmp_path / "x").write_bytes(content)
    assert np.abs(read_image(tmp_path / "x").astype(int) - 40).max() <= 2


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_the_exif_orientation_is_applied_whatever_the_format(tmp_path, kind):
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    content = encoded(kind, Image.fromarray(RAMP), exif=exif)
    (tmp_path / "x").write_bytes(content)
    assert read_image(tmp_path / "x")[100, 5, 0] > 240


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF"])
def test_one_pixel_is_an_image(tmp_path, kind):
    (tmp_path / "x").write_bytes(encoded(kind, Image.new("L", (1, 1), 77)))
    assert (np.abs(read_image(tmp_path / "x").astype(int) - 77) <= 1).all()


def test_no_other_format_is_tried_as_pillow_would_start_a_program_for_it(tmp_path):
    (tmp_path / "x.png").write_bytes(encoded("EPS", Image.fromarray(RAMP).convert("RGB")))
    with pytest.raises(InputError, match="not an image that can be decoded"):
        read_image(tmp_path / "x.png")


# --- Bombs

READ_IN_LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
import numpy, cv2, PIL.Image, pydicom, covidxray.data.dicom
from covidxray.errors import InputError
from covidxray.data.images import read_image
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 64 * 2**20,) * 2)
try:
    read_image(Path(sys.argv[1]))
except InputError as error:
    print(error)
"""


def rle_bomb(path):
    """An RLE file of 2 MB that claims 224 x 224 pixels and holds 128 million."""
    save_dicom(path, RAMP[:224, :224])
    ds = pydicom.dcmread(path)
    ds.compress(pydicom.uid.RLELossless, encoding_plugin="pydicom")
    header = struct.pack("<II56x", 1, 64)
    ds.PixelData = pydicom.encaps.encapsulate([header + b"\x81\x05" * 1_000_000])
    ds.save_as(path)


BOMBS = {
    "20,000 x 20,000 pixels": lambda path: path.write_bytes(png_of(20_000, 20_000)),
    "more pixels than fit any memory": lambda path: path.write_bytes(png_of(2**31 - 1, 2**31 - 1)),
    "a JPEG": lambda path: path.write_bytes(
        encoded("JPEG").replace((260).to_bytes(2) + (300).to_bytes(2), b"\xff\xff\xff\xff", 1)
    ),
    "a GIF": lambda path: path.write_bytes(b"GIF89a\xff\xff\xff\xff" + encoded("GIF")[10:]),
    "rows and columns": lambda path: save_dicom(path, RAMP, Rows=65535, Columns=65535),
    "frames": lambda path: save_dicom(path, RAMP, NumberOfFrames=2**31 - 1),
    "runs": rle_bomb,
}


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells how much is in use")
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_refused_before_memory_is_taken(tmp_path, bomb):
    path = tmp_path / "x"
    BOMBS[bomb](path)
    command = [sys.executable, "-c", READ_IN_LITTLE_MEMORY, path]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{path}: " in done.stdout
    assert "has too many pixels; scale it down" in done.stdout or bomb == "runs"


def test_a_jpeg_of_thousands_of_scans_which_would_take_hours_is_refused(tmp_path):
    content = encoded("JPEG", progressive=True)
    scan = content.rindex(b"\xff\xda")
    (tmp_path / "x.jpg").write_bytes(content[:-2] + content[scan:-2] * 2000 + b"\xff\xd9")
    with pytest.raises(InputError, match="not an image that can be decoded"):
        read_image(tmp_path / "x.jpg")


# --- Names, links, pipes

NAMES = [
    b"a b.jpg",
    b"new\nline.jpg",
    b"quo'te\".jpg",
    "\N{GRINNING FACE}.jpg".encode(),
    b"x" * 251 + b".jpg",
    b"caf\xe9.jpg",
    b"=1+1.jpg",
    b"\x1b[31m.jpg",
]
JUNK = (".DS_Store", "Thumbs.db", "desktop.ini", ".hidden.jpg", "notes.txt")


@pytest.fixture(scope="session")
def strange(tmp_path_factory):
    """A data set of 14 + 6 drawings with odd names, and all else that a folder can hold."""
    root = tmp_path_factory.mktemp("strange") / "set"
    for name, first in (("covid", 0), ("normal", 14)):
        (root / name).mkdir(parents=True)
        for i in range(6):
            shutil.copy(DRAWINGS[first + i], root / name / f"{i}.jpg")
    covid = root / "covid"
    for i, name in enumerate(NAMES):
        shutil.copy(DRAWINGS[6 + i], os.fsencode(covid) + b"/" + name)
    for name in JUNK:
        (covid / name).write_bytes(b"\0\0\0\1Bud1")
    (covid / "__MACOSX").mkdir()
    shutil.copy(DRAWINGS[0], covid / "__MACOSX/._0.jpg")
    (covid / "folder.jpg").mkdir()
    os.mkfifo(covid / "pipe.jpg")
    os.mkfifo(covid / "pipe")
    with socket.socket(socket.AF_UNIX) as end:
        before = os.getcwd()
        os.chdir(covid)  # a socket's path may only be short
        end.bind("socket.png")
        os.chdir(before)
    (covid / "broken.jpg").symlink_to("nowhere.jpg")
    (covid / "circle.jpg").symlink_to("circle.jpg")
    (covid / "endless.jpg").symlink_to("/dev/zero")
    (covid / "around").symlink_to(root)
    shutil.copy(DRAWINGS[20], root / "stray.jpg")
    return root


LEFT_OUT = ("broken.jpg", "circle.jpg", "endless.jpg", "pipe.jpg", "socket.png")
NO_FILE = "is not a file, or a link that leads nowhere; remove it"


def plain_run(*command, cwd):
    """As a process of its own, in a terminal that knows nothing but ASCII."""
    ascii_only = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, ROOT / command[0], *command[1:]]
    done = subprocess.run(
        command, capture_output=True, cwd=cwd, env=ascii_only, timeout=300, check=False
    )
    assert b"Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout.decode("ascii"), done.stderr.decode("ascii")


@posix
def test_only_what_may_be_an_image_is_listed(strange):
    names = {os.fsencode(path.name) for path in list_tree(strange / "covid")[0]}
    assert names == {*NAMES, *(f"{i}.jpg".encode() for i in range(6)), *map(os.fsencode, LEFT_OUT)}


@posix
@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_is_no_file_is_refused_and_nothing_waits_for_it(strange, name):
    with pytest.raises(InputError, match=f"{name}: {NO_FILE}"):
        read_image(strange / "covid" / name)


@posix
def test_the_audit_names_and_counts_what_it_leaves_out(strange, tmp_path):
    command = ("audit_dataset.py", "-d", strange, "--json", "found.json")
    code, out, err = plain_run(*command, cwd=tmp_path)
    assert code == 0
    assert out.splitlines()[0] == "set: 14 covid + 6 normal images, 20 patients; 6 left out"
    for name in LEFT_OUT:
        assert f"[INFO] left out: {strange}/covid/{name}: {NO_FILE}\n" in err
    assert f"{strange}/stray.jpg: lies in no class folder; move it into one\n" in err
    assert json.loads((tmp_path / "found.json").read_text())["images"] == 20


@pytest.mark.long
@pytest.mark.slow
@posix
def test_prediction_takes_every_name_and_counts_what_it_cannot_read(trained, strange, tmp_path):
    outputs = ("--csv", "t.csv", "--json", "t.json", "--explain", "heat")
    command = ("predict_covid19.py", "-m", trained[0], strange, *outputs)
    code, out, err = plain_run(*command, cwd=tmp_path)
    assert code == 2
    assert err.splitlines()[-1] == "error: 5 of 26 files could not be read; see the lines above"
    for name in LEFT_OUT:
        assert f"error: {strange}/covid/{name}: {NO_FILE}\n" in err
    images = [row["image"] for row in json.loads((tmp_path / "t.json").read_text())]
    assert len(images) == 21
    for shown in ("new\\nline.jpg", "caf\\udce9.jpg", "\N{GRINNING FACE}.jpg", "\\x1b[31m.jpg"):
        assert f"{strange}/covid/{shown}" in images
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        assert [row["image"] for row in csv.DictReader(file)] == images
    assert len(list((tmp_path / "heat").iterdir())) == 21
    assert "\\U0001f600.jpg" in out


@pytest.mark.long
@pytest.mark.slow
@posix
def test_training_and_evaluation_go_on_with_the_others(strange, script, tmp_path):
    copy = tmp_path / "set"
    shutil.copytree(strange, copy, symlinks=True, ignore=shutil.ignore_patterns("pipe*", "socket*"))
    for i in range(6):
        (copy / "covid" / f"{i}.jpg").unlink()  # an odd name costs no more than a plain one
    (copy / "normal" / "cut.jpg").write_bytes(DRAWINGS[3].read_bytes()[:3000])
    quick = ("--folds", 2, "--repeats", 1, "--epochs", 3, "--report", "report.html")
    done = script("train_covid19.py", "-d", copy, *quick, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    counted = "set: 8 covid + 6 normal images, 14 patients; 5 left out"
    assert counted in done.stdout.splitlines()
    cut = f"[INFO] left out: {copy}/normal/cut.jpg: is not an image that can be decoded; remove it"
    assert done.stderr.replace("\r", "\n").splitlines().count(cut) == 1
    numbers = json.loads((tmp_path / "metrics.json").read_text())
    assert (numbers["dataset"]["images"], numbers["dataset"]["left_out"]) == ([8, 6], 5)
    assert sum(map(len, numbers["split"].values())) == 14
    report = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "cannot be read, or in no class folder" in report

    command = ("evaluate_covid19.py", "-m", "covid19.keras", "-d", copy, "--json", "e.json")
    done = script(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert counted in done.stdout.splitlines()
    numbers = json.loads((tmp_path / "e.json").read_text())
    assert (numbers["dataset"]["images"], numbers["dataset"]["left_out"]) == ([8, 6], 5)


@posix
def test_the_sampler_names_what_it_leaves_out_and_its_folder_is_found_again(strange, tmp_path):
    normal = tmp_path / "chest_xray/train/NORMAL"
    shutil.copytree(
        strange / "covid", normal, symlinks=True, ignore=shutil.ignore_patterns("pipe*", "socket*")
    )
    (normal / "zero.jpg").touch()
    os.mkfifo(normal / "pipe.jpg")
    command = ("sample_kaggle_dataset.py", "-k", "chest_xray", "-o", "out", "-s", "14")
    code, out, err = plain_run(*command, "--all-per-patient", cwd=tmp_path)
    assert code == 0, err
    for line in out.splitlines()[:-1]:
        assert line.endswith((NO_FILE, "is not an image that can be decoded; remove it"))
    again, _, err = plain_run(*command, "--all-per-patient", cwd=tmp_path)
    assert again == 0, err
    kept = {os.fsencode(path.name) for path in list_images(tmp_path / "out")}
    assert {*NAMES} < kept


@posix
def test_the_builder_counts_what_it_cannot_read(tmp_path):
    images = tmp_path / "clone" / "images"
    images.mkdir(parents=True)
    (images / "good.png").write_bytes(encoded("PNG"))
    (images / "cut.png").write_bytes(encoded("PNG")[:500])
    (images / "zero.png").touch()
    (images / "circle.png").symlink_to("circle.png")
    os.mkfifo(images / "pipe.png")
    names = ("good", "cut", "zero", "circle", "pipe", "gone")
    rows = [f"{i},COVID-19,PA,images,{name}.png" for i, name in enumerate(names)]
    table = "\n".join(["patientid,finding,view,folder,filename", *rows])
    (tmp_path / "clone" / "metadata.csv").write_text(table)
    command = ("build_covid_dataset.py", "-c", "clone", "-o", "covid")
    code, out, err = plain_run(*command, cwd=tmp_path)
    assert code == 0, err
    assert "covid: 1 images of 1 patients, from 6 rows" in out
    assert "  2 damaged: cut.png, zero.png" in out
    assert "  3 missing: circle.png, pipe.png, gone.png" in out


@posix
@pytest.mark.parametrize("where", ["in", "out"])
def test_a_link_to_a_file_is_read_as_that_file(tmp_path, where):
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / where / "x.png").write_bytes(encoded("PNG"))
    link = tmp_path / "in" / "link.png"
    link.symlink_to(tmp_path / where / "x.png")
    assert link in list_images(tmp_path / "in")
    assert (read_image(link) == read_image(tmp_path / where / "x.png")).all()


@pytest.mark.slow
@posix
@pytest.mark.parametrize(
    "name", ["audit_dataset.py", pytest.param("predict_covid19.py", marks=pytest.mark.long)]
)
def test_a_reader_who_stops_reading_ends_it_quietly(trained, name):
    given = ("-d", trained[1]) if name == "audit_dataset.py" else ("-m", trained[0], trained[1])
    process = subprocess.Popen(
        [sys.executable, ROOT / name, *given], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.readline()
    process.stdout.close()
    said = process.stderr.read()
    assert process.wait() == 141
    assert b"Traceback" not in said
    assert b"BrokenPipe" not in said


# --- Layouts


@pytest.fixture
def layout(tmp_path):
    """A function from class names and numbers of images to a data set's folder."""

    def make(**classes):
        drawings = iter(DRAWINGS)
        for name, n in classes.items():
            (tmp_path / "set" / name).mkdir(parents=True)
            for i in range(n):
                shutil.copy(next(drawings), tmp_path / "set" / name / f"{name}{i}.jpg")
        return tmp_path / "set"

    return make


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        ({"covid": 3}, "needs two or more class folders, has 1"),
        ({"covid": 3, "normal": 0}, "normal: holds no images; fill it or remove it"),
        ({"covid": 3, "normal": 1}, "class normal has 1 patients, fewer than 2; add patients"),
    ],
)
def test_too_little_is_said_in_one_line(script, layout, classes, said):
    done = script("audit_dataset.py", "-d", layout(**classes))
    lines = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert done.returncode == 2
    assert len(lines) == 1
    assert said in lines[0]


def test_fewer_patients_than_folds_are_said_before_any_work(script, layout, tmp_path):
    done = script("train_covid19.py", "-d", layout(covid=6, normal=4), cwd=tmp_path)
    assert done.returncode == 2
    assert "class normal has 4 patients, fewer than 5; add patients, or lower" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_images_in_no_class_folder_are_not_a_class_of_their_own(script, layout):
    root = layout(covid=2)
    for path in (root / "covid").iterdir():
        path.rename(root / path.name)
    (root / "covid").rmdir()
    done = script("audit_dataset.py", "-d", root)
    assert done.returncode == 2
    assert "needs two or more class folders, has 0" in done.stderr


def test_when_no_image_of_any_class_can_be_read_the_last_line_names_one(script, layout):
    root = layout(covid=2, normal=2)
    for path in root.rglob("*.jpg"):
        path.write_bytes(b"")
    done = script("audit_dataset.py", "-d", root)
    assert done.returncode == 2
    assert "covid0.jpg: is not an image that can be decoded; remove it" in done.stderr


def test_one_image_in_two_classes_is_one_patient(script, layout, tmp_path):
    root = layout(covid=3, normal=3)
    shutil.copy(root / "covid" / "covid0.jpg", root / "normal" / "again.jpg")
    done = script("audit_dataset.py", "-d", root)
    assert done.returncode == 0, done.stderr
    assert "covid/covid0.jpg\n  = normal/again.jpg" in done.stdout


@posix
def test_a_link_to_a_folder_is_a_class_and_one_in_a_circle_is_none(layout):
    root = layout(covid=3, elsewhere=3)
    (root / "elsewhere").rename(root.parent / "elsewhere")
    (root / "normal").symlink_to(root.parent / "elsewhere")
    (root / "circle").symlink_to("circle")
    (root / "covid" / "around").symlink_to(root)
    data = load_dataset(root, SALT)
    assert data.classes == ("covid", "normal")
    assert data.labels.tolist() == [0] * 3 + [1] * 3
    assert data.left_out == ()


@posix
def test_a_class_whose_name_is_no_text_is_refused_with_the_remedy(layout):
    root = layout(covid=2, normal=2)
    os.rename(root / "normal", os.fsencode(root) + b"/norm\xe9l")
    with pytest.raises(InputError, match="cannot be a class's name; rename the folder"):
        load_dataset(root, SALT)


@pytest.mark.parametrize("start", [0, 132, 400])
def test_a_damaged_dicom_file_leaves_the_others(script, layout, start):
    root = layout(covid=3, normal=3)
    for name in ("a.dcm", "b.dcm"):
        save_dicom(root / "covid" / name, RAMP)
    content = (root / "covid" / "b.dcm").read_bytes()
    (root / "covid" / "b.dcm").write_bytes(content[:start] + b"\xff" * 200)
    done = script("audit_dataset.py", "-d", root)
    assert done.returncode == 0, done.stderr
    assert "set: 4 covid + 3 normal images, 7 patients; 1 left out" in done.stdout
    assert f"left out: {root}/covid/b.dcm: " in done.stderr
