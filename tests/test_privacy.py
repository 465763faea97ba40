"""Nothing by which a DICOM file tells its patient, hospital or study reaches any output.

A file here has a secret in every tag of the standard that takes text, also nested, in private tags,
in its preamble and behind its pixels; then every byte that the scripts write or print is searched.
"""

import base64
import hashlib
import json
import zipfile

import numpy as np
import pydicom
import pytest
from pydicom.datadict import DicomDictionary
from test_dicom import compress, save_dicom

from covidxray.data.dicom import read_header
from covidxray.data.image_file import ImageFile
from covidxray.data.images import read_image
from covidxray.demo.phantom import draw_phantom
from covidxray.model.model_file import MEMBER

SECRET = "ZQXJWVKY"  # what every secret text begins with; behind it stands the tag
UID = "1.2.826.0.1.4711.7733"
NUMBERS = {"DA": "19610704", "DT": "19610704112233", "TM": "112233.77", "UI": UID, "IS": "47117733"}
NUMBERS |= {"DS": "4711.7733", "AS": "077Y", "UR": f"http://{SECRET}/x"}
TEXTS = ("PN", "LO", "SH", "ST", "LT", "UT", "UC", "CS", "AE")
# What decides how the pixels are read. Sex and age are kept on purpose, and tested elsewhere.
MEANT = {"SOPClassUID", "SpecificCharacterSet", "PatientSex", "PatientAge"}
PATIENT = f"{SECRET}00100020"


def secrets_of(number):
    """A data set with a secret in every tag that takes one."""
    ds = pydicom.Dataset()
    for tag, (vr, _, _, retired, keyword) in DicomDictionary.items():
        group = tag >> 16
        readable = group in (0x0000, 0x0002, 0x0004, 0x7FE0) or (
            group == 0x0028 and vr not in ("LO", "LT", "ST")
        )
        if retired or readable or not keyword or keyword in MEANT or group >= 0x5000:
            continue
        if vr in TEXTS:
            ds.add_new(tag, vr, f"{SECRET}{tag:08X}")
        elif vr in NUMBERS:
            ds.add_new(tag, vr, NUMBERS[vr])
    ds.PatientID = f"{PATIENT}-{number}"
    return ds


def write(path, pixels, number):
    """A DICOM file of grey pixels, full of secrets."""
    save_dicom(path, pixels)
    ds = pydicom.dcmread(path)
    secrets = secrets_of(number)
    ds.update(secrets)
    inner = secrets_of(number)
    inner.ReferencedPatientSequence = [secrets_of(number)]
    ds.RequestAttributesSequence = [inner]
    ds.OtherPatientIDsSequence = [secrets_of(number)]
    block = ds.private_block(0x0011, f"{SECRET} creator", create=True)
    block.add_new(0x01, "LO", f"{SECRET} private")
    block.add_new(0x02, "UN", f"{SECRET} private".encode())
    ds.add_new(0x60000022, "LO", f"{SECRET} overlay")
    ds.add_new(0x60003000, "OW", f"{SECRET} overlay ".encode())
    ds.DataSetTrailingPadding = f"{SECRET} padding ".encode()
    ds.file_meta.SourceApplicationEntityTitle = SECRET
    ds.file_meta.PrivateInformationCreatorUID = UID
    ds.file_meta.PrivateInformation = f"{SECRET} private ".encode()
    ds.preamble = (SECRET.encode() * 16)[:128]
    ds.save_as(path)


def forms(text):
    """The bytes under which a text could stand in a file."""
    raw = text.encode()
    yield from (raw, raw.lower(), text.encode("utf-16-le"), text.encode("utf-16-be"), raw[::-1])
    yield from (raw.hex().encode(), raw.hex().upper().encode())
    for shift in range(3):  # the characters that do not depend on what stands before or after
        coded = base64.b64encode(bytes(shift) + raw)
        yield coded[-(-shift * 8 // 6) : (shift + len(raw)) * 8 // 6]


SEARCHED = [SECRET, *(NUMBERS[vr] for vr in ("DA", "UI", "IS", "DS")), "112233.77"]
FORMS = {form: text for text in SEARCHED for form in forms(text)}
for kind in ("md5", "sha1", "sha256", "blake2b"):  # of the ID alone; the one that is kept is salted
    for i in range(6):
        digest = hashlib.new(kind, f"{PATIENT}-{i}".encode())
        FORMS |= {digest.digest(): kind, digest.hexdigest().encode(): kind}


def found(content):
    return {text for form, text in FORMS.items() if form in content}


def everything(folder):
    """The name and the bytes of every file, or of the members of an archive."""
    for path in sorted(folder.rglob("*")):
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    yield f"{path.name}:{name}", name.encode() + archive.read(name)
        elif path.is_file():
            yield path.name, path.name.encode() + path.read_bytes()


@pytest.fixture(scope="module")
def hospital(tmp_path_factory):
    """Class folders of 5 DICOM files each, and a folder of damaged and compressed ones."""
    root = tmp_path_factory.mktemp("hospital")
    rng = np.random.default_rng(0)
    for label, name in enumerate(("covid", "normal")):
        (root / "data" / name).mkdir(parents=True)
        for i in range(5):
            picture = draw_phantom(rng, size=128, severity=0.8 * (1 - label))
            grey = np.ascontiguousarray(np.atleast_3d(picture.image)[..., 0])
            write(root / "data" / name / f"{name}{i}.dcm", grey, i + label)
    (root / "more").mkdir()
    whole = (root / "data" / "covid" / "covid0.dcm").read_bytes()
    for i, cut in enumerate((200, 5_000, 100_000, len(whole) - 1000)):
        (root / "more" / f"cut{i}.dcm").write_bytes(whole[:cut])
    for i, kind in enumerate(("RLELossless", "JPEGLSLossless", "JPEG2000Lossless")):
        path = root / "more" / f"packed{i}.dcm"
        path.write_bytes(whole)
        compress(path, kind)
    return root


def test_the_secrets_are_in_the_files_and_the_search_finds_them(hospital):
    path = hospital / "data" / "covid" / "covid0.dcm"
    assert read_image(path).std() > 10
    content = path.read_bytes()
    assert found(content) == set(SEARCHED)
    assert content.count(SECRET.encode()) > 3000
    for shift in range(3):
        assert SECRET in found(base64.b64encode(bytes(shift) + b"..." + content))
    assert SECRET in found(content.hex().encode())
    assert SECRET in found(content.decode("latin-1").encode("utf-16"))


def test_a_text_in_place_of_a_view_is_not_kept(tmp_path):
    for text in ("DOE JANE", "Doe", SECRET):
        save_dicom(tmp_path / "x", np.zeros((8, 8), np.uint8), ViewPosition=text)
        assert read_header(ImageFile.read(tmp_path / "x"), b"salt")["view"] == ""


@pytest.mark.long
@pytest.mark.slow
def test_no_byte_that_is_written_or_printed_tells_a_patient(
    hospital, script, tmp_path, capfd, monkeypatch
):
    printed = []

    def run(name, *arguments, code=0):
        done = script(name, *arguments, cwd=tmp_path)
        assert done.returncode == code, done.stderr
        printed.extend((done.stdout, done.stderr))

    data, quick = hospital / "data", ("--folds", 2, "--repeats", 1, "--precision", "float32")
    outputs = ("--cache", "cache", "--report", "training.html", "--metrics", "metrics.json")
    run("train_covid19.py", "-d", data, *quick, *outputs)
    run("audit_dataset.py", "-d", data, "--json", "audit.json")
    model = ("-m", "covid19.keras")
    evaluated = ("--json", "evaluation.json", "--report", "evaluation.html")
    run("evaluate_covid19.py", *model, "-d", data, *evaluated)
    tables = ("--csv", "table.csv", "--json", "table.json", "--explain", "heat")
    run("predict_covid19.py", *model, data, hospital / "more", *tables, code=2)
    printed.extend(capfd.readouterr())
    names = {path.name for path in tmp_path.rglob("*")}
    assert {"plot.png", "covid19.keras", "training.html", "table.csv", "cache", "heat"} < names
    assert len(list((tmp_path / "heat").iterdir())) == 13
    assert len(list((tmp_path / "cache").rglob("*.safetensors"))) == 10
    written = [*everything(tmp_path), ("printed", "\n".join(printed).encode())]
    assert len(written) > 35
    assert {name: found(content) for name, content in written if found(content)} == {}
    metadata = json.loads(dict(written)[f"covid19.keras:{MEMBER}"].removeprefix(MEMBER.encode()))
    assert len(metadata["patients"]) > 2  # the salted digests, which are kept on purpose
