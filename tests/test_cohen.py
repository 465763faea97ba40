"""Cohen's repository: any version of its table, and what a table must not be able to do."""

import csv
import json
import shutil

import pytest

from covidxray.data import cohen
from covidxray.data.loading import load_dataset
from covidxray.data.manifest import read_exclusions, read_manifest
from covidxray.errors import InputError

HEADER = ["patientid", "finding", "view", "modality", "folder", "filename"]


def write_table(root, rows, header=HEADER):
    """metadata.csv of a clone, from rows of cells by column name."""
    with open(root / "metadata.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, header, restval="")
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def clone(tmp_path, picture):
    """A function that makes a small clone from (patient, finding, view, file name) rows."""

    def make(*rows):
        root = tmp_path / "clone"
        (root / "images").mkdir(parents=True)
        with open(root / "metadata.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(HEADER)
            for number, (patient, finding, view, name) in enumerate(rows):
                writer.writerow([patient, finding, view, "X-ray", "images", name])
                if "/" not in name:
                    (root / "images" / name).write_bytes(picture(number))
        return root

    return make


def test_every_version_of_the_table_gives_its_number_of_files(real_data):
    history = real_data / "metadata-history"
    expected = json.loads((history / "expected.json").read_text())
    counts = {}
    for name, facts in expected.items():
        if facts["covid_pa"] is None:
            continue
        chosen = cohen.select(cohen.read_metadata(history / name), "COVID-19", ["PA"])
        counts[name] = len({record.filename for record in chosen})
    assert counts == {n: f["covid_pa"] for n, f in expected.items() if f["covid_pa"] is not None}


def test_a_cell_may_hold_a_line_break(tmp_path):
    cells = {"patientid": "1", "finding": "COVID-19", "view": "PA", "folder": "images"}
    notes = {"filename": "a.png", "clinical_notes": 'two\nlines, "quoted"'}
    write_table(tmp_path, [cells | notes, cells | {"filename": "b.png"}], [*cells, *notes])
    found = cohen.read_metadata(tmp_path / "metadata.csv")
    assert [record.filename for record in found] == ["a.png", "b.png"]


def test_a_version_without_views_is_refused_and_says_so(real_data):
    with pytest.raises(InputError, match="no view column"):
        cohen.read_metadata(real_data / "metadata-history" / "2020-03-01-c2bee03.csv")


def test_a_finding_that_is_a_path_counts_by_its_last_part(real_data):
    table = cohen.read_metadata(real_data / "metadata-history" / "final-schema-excerpt.csv")
    assert [r.patient_id for r in cohen.select(table, "COVID-19", ["PA"])] == ["2", "4", "13"]


def test_the_version_of_11_march_gives_the_tutorials_25_images(real_data, script, tmp_path):
    done = script(
        *("build_covid_dataset.py", "-c", real_data / "covid-chestxray-dataset"),
        *("-o", tmp_path / "covid"),
        *("--metadata", real_data / "metadata-history" / "2020-03-11-1edfb79.csv"),
    )
    assert done.returncode == 0
    assert len(read_manifest(tmp_path / "covid")) == 25
    assert len(list((tmp_path / "covid").iterdir())) == 25 + len(("manifest.csv", "masks"))
    assert len(list((tmp_path / "covid" / "masks").iterdir())) == 7


def test_the_finding_has_to_be_the_whole_finding(clone, script, tmp_path):
    root = clone((1, "COVID-19", "PA", "a.png"), (2, "COVID-19, ARDS", "PA", "b.png"))
    script("build_covid_dataset.py", "-c", root, "-o", tmp_path / "plain")
    script("build_covid_dataset.py", "-c", root, "-o", tmp_path / "mixed", "--include-mixed")
    assert set(read_manifest(tmp_path / "plain")) == {"a.png"}
    assert set(read_manifest(tmp_path / "mixed")) == {"a.png", "b.png"}


def test_one_of_several_findings_is_selected_only_on_demand(clone):
    table = cohen.read_metadata(
        clone((1, "COVID-19", "PA", "a.png"), (2, "COVID-19, ARDS", "PA", "b.png")) / "metadata.csv"
    )
    assert [row.filename for row in cohen.select(table, "COVID-19", ["PA"])] == ["a.png"]


def test_controls_have_a_known_finding_that_is_not_covid(clone, script, tmp_path):
    root = clone(
        *((1, "COVID-19", "PA", "a.png"), (2, "SARS", "PA", "b.png"), (3, "todo", "PA", "c.png")),
        *((4, "Unknown", "PA", "d.png"), (5, "", "PA", "e.png"), (6, "SARS", "L", "f.png")),
        (7, "COVID-19, ARDS", "PA", "g.png"),
    )
    controls = tmp_path / "controls"
    script("build_covid_dataset.py", "-c", root, "-o", tmp_path / "covid", "--controls", controls)
    assert set(read_manifest(controls)) == {"b.png"}


def test_several_views_can_be_selected(clone, script, tmp_path):
    root = clone(
        *((1, "COVID-19", "PA", "a.png"), (2, "COVID-19", "AP Supine", "b.png")),
        (3, "COVID-19", "L", "c.png"),
    )
    out = tmp_path / "covid"
    script("build_covid_dataset.py", "-c", root, "-o", out, "--view", "PA", "AP Supine")
    assert set(read_manifest(out)) == {"a.png", "b.png"}


def test_one_per_patient_takes_the_first_image(clone, script, tmp_path):
    root = clone(*((p, "COVID-19", "PA", f"{p}-{i}.png") for p in (1, 2) for i in (0, 1)))
    out = tmp_path / "covid"
    script("build_covid_dataset.py", "-c", root, "-o", out, "--one-per-patient")
    assert set(read_manifest(out)) == {"1-0.png", "2-0.png"}


def test_a_limited_choice_depends_on_the_seed_alone(clone, script, tmp_path):
    root = clone(*((i, "COVID-19", "PA", f"{i}.png") for i in range(20)))
    chosen = []
    for seed in (1, 1, 2):
        done = script(
            *("build_covid_dataset.py", "-c", root, "-o", tmp_path / "covid"),
            *("--limit", 8, "--seed", seed),
        )
        assert done.returncode == 0
        chosen.append(set(read_manifest(tmp_path / "covid")))
    assert len(chosen[0]) == 8
    assert chosen[0] == chosen[1] != chosen[2]


def test_missing_repeated_and_damaged_images_are_counted_and_named(clone, script, tmp_path):
    root = clone(
        *((1, "COVID-19", "PA", "a.png"), (2, "COVID-19", "PA", "gone.png")),
        *((3, "COVID-19", "PA", "bad.png"), (1, "COVID-19", "PA", "a.png")),
    )
    (root / "images" / "gone.png").unlink()
    (root / "images" / "bad.png").write_bytes((root / "images" / "bad.png").read_bytes()[:200])
    done = script("build_covid_dataset.py", "-c", root, "-o", tmp_path / "covid")
    assert done.returncode == 0
    assert "1 missing: gone.png" in done.stdout
    assert "1 repeated: a.png" in done.stdout
    assert "1 damaged: bad.png" in done.stdout


def test_every_selected_row_is_in_the_folder_or_among_the_excluded(clone, script, tmp_path):
    root = clone(
        *((p, "COVID-19", "PA", f"{p}.png") for p in range(6)),
        *((1, "COVID-19", "PA", "second.png"), (2, "COVID-19", "PA", "2.png")),
        *((6, "COVID-19", "PA", "gone.png"), (7, "COVID-19", "L", "lateral.png")),
    )
    (root / "images" / "gone.png").unlink()
    out = tmp_path / "covid"
    script("build_covid_dataset.py", "-c", root, "-o", out, "--one-per-patient", "--limit", 4)
    excluded = read_exclusions(out)
    assert {("gone.png", "missing"), ("2.png", "repeated")} < set(excluded)
    assert ("second.png", "another image of the patient") in excluded
    assert [reason for _, reason in excluded].count("not drawn") == 2
    names = [*read_manifest(out), *(name for name, _ in excluded)]
    assert sorted(names) == sorted(
        [f"{p}.png" for p in range(6)] + ["second.png", "2.png", "gone.png"]
    )


def test_strict_makes_a_missing_image_an_error_and_writes_nothing(clone, script, tmp_path):
    root = clone((1, "COVID-19", "PA", "a.png"), (2, "COVID-19", "PA", "gone.png"))
    (root / "images" / "gone.png").unlink()
    done = script("build_covid_dataset.py", "-c", root, "-o", tmp_path / "covid", "--strict")
    assert done.returncode == 2
    assert "gone.png" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "covid").exists()


@pytest.mark.parametrize("name", ["../secret.png", "/etc/secret.png", "C:\\secret.png"])
def test_a_name_that_leads_out_of_the_repository_is_counted(clone, script, tmp_path, name):
    root = clone((1, "COVID-19", "PA", "a.png"), (2, "COVID-19", "PA", name))
    shutil.copy(root / "images" / "a.png", root / "secret.png")
    build = ("build_covid_dataset.py", "-c", root, "-o", tmp_path / "covid")
    done = script(*build)
    assert done.returncode == 0, done.stderr
    assert "1 outside the repository: " in done.stdout
    assert set(read_manifest(tmp_path / "covid")) == {"a.png"}
    assert read_exclusions(tmp_path / "covid") == [(name, "outside the repository")]
    strict = script(*build, "--strict")
    assert strict.returncode == 2
    assert "is outside the repository" in strict.stderr.splitlines()[-1]


def test_a_link_that_leads_out_of_the_repository_is_not_followed(clone, tmp_path, script):
    root = clone((1, "COVID-19", "PA", "a.png"))
    (root / "images" / "a.png").rename(tmp_path / "secret.png")
    try:
        (root / "images" / "a.png").symlink_to(tmp_path / "secret.png")
    except OSError:
        pytest.skip("this system makes no links")
    done = script("build_covid_dataset.py", "-c", root, "-o", tmp_path / "covid")
    assert done.returncode == 2
    assert "1 outside the repository: a.png" in done.stdout
    assert not (tmp_path / "covid").exists()


def test_masks_of_lungs_come_along_and_a_damaged_one_stays_behind(clone, script, tmp_path):
    root = clone(*((p, "COVID-19", "PA", f"{p}.png") for p in range(3)))
    masks = root / cohen.MASKS
    masks.mkdir(parents=True)
    shutil.copy(root / "images" / "0.png", masks / "0_mask.png")
    (masks / "1_mask.png").write_bytes((root / "images" / "1.png").read_bytes()[:100])
    done = script("build_covid_dataset.py", "-c", root, "-o", tmp_path / "covid")
    assert done.returncode == 0
    assert "1 masks of lungs" in done.stdout
    assert "1_mask.png" in done.stderr
    assert [p.name for p in (tmp_path / "covid" / "masks").iterdir()] == ["0.png.png"]


@pytest.mark.parametrize(
    ("modality", "taken"),
    [("X-ray", True), ("Radiograph", True), ("", True), ("CT", False), ("ct", False)],
)
def test_slices_of_a_ct_are_taken_neither_as_covid_nor_as_controls(
    clone, script, tmp_path, modality, taken
):
    root = clone((1, "COVID-19", "PA", "a.png"), (2, "SARS", "PA", "b.png"))
    (root / "images" / "c.png").write_bytes((root / "images" / "a.png").read_bytes())
    cells = {"view": "PA", "folder": "images"}
    rows = [
        {**cells, "patientid": "1", "finding": "COVID-19", "filename": "a.png"},
        {**cells, "patientid": "2", "finding": "SARS", "filename": "b.png"},
        {**cells, "patientid": "3", "finding": "COVID-19", "filename": "c.png"},
    ]
    for row, kind in zip(rows, ("X-ray", modality, modality), strict=True):
        row["modality"] = kind
    write_table(root, [*rows, {**rows[1], "patientid": "4", "modality": "X-ray"}])
    out, controls = tmp_path / "covid", tmp_path / "controls"
    done = script("build_covid_dataset.py", "-c", root, "-o", out, "--controls", controls)
    assert done.returncode == 0, done.stderr
    assert set(read_manifest(out)) == ({"a.png", "c.png"} if taken else {"a.png"})
    (row,) = read_manifest(controls).values()
    assert row.patient_id == ("2" if taken else "4")


def test_a_table_without_a_modality_column_is_all_x_rays(clone, script, tmp_path):
    root = clone((1, "COVID-19", "PA", "a.png"))
    header = [name for name in HEADER if name != "modality"]
    write_table(
        root,
        [{"patientid": "1", "finding": "COVID-19", "view": "PA", "filename": "a.png"}],
        [name for name in header if name != "folder"],
    )
    done = script("build_covid_dataset.py", "-c", root, "-o", tmp_path / "covid")
    assert done.returncode == 0, done.stderr
    assert set(read_manifest(tmp_path / "covid")) == {"a.png"}


def test_images_of_no_known_patient_are_not_one_patients(clone, script, tmp_path):
    root = clone(
        *(("", "COVID-19", "PA", f"unknown-{i}.png") for i in range(3)),
        *((5, "COVID-19", "PA", f"known-{i}.png") for i in range(2)),
    )
    out = tmp_path / "covid"
    done = script("build_covid_dataset.py", "-c", root, "-o", out, "--one-per-patient")
    unknown = {f"unknown-{i}.png" for i in range(3)}
    assert set(read_manifest(out)) == {*unknown, "known-0.png"}
    assert "4 images of 4 patients, from 5 rows" in done.stdout
    assert read_exclusions(out) == [("known-1.png", "another image of the patient")]
    done = script("build_covid_dataset.py", "-c", root, "-o", out)
    assert "5 images of 4 patients, from 5 rows" in done.stdout


def test_a_manifests_row_has_each_cell_of_the_table_in_its_place(clone, script, tmp_path):
    root = clone((1, "COVID-19", "PA", "a.png"))
    (root / "other").mkdir()
    (root / "images" / "a.png").rename(root / "other" / "a.png")
    cells = {
        **{"patientid": "77", "finding": "Pneumonia/Viral/COVID-19", "view": "AP"},
        **{"modality": "X-ray", "folder": "other", "filename": "a.png", "age": "61"},
        **{"sex": "F", "license": "CC BY", "url": "https://example.org/a", "location": "Hannover"},
    }
    write_table(root, [cells], list(cells))
    out = tmp_path / "covid"
    done = script("build_covid_dataset.py", "-c", root, "-o", out, "--view", "ap")
    assert done.returncode == 0, done.stderr
    row = read_manifest(out)["a.png"]
    assert (row.source, row.source_id, row.patient_id) == ("cohen", "other/a.png", "77")
    assert (row.view, row.finding, row.age, row.sex) == ("AP", cells["finding"], "61", "F")
    assert (row.license, row.url, row.synthetic) == ("CC BY", "https://example.org/a", "no")
    assert (out / "a.png").read_bytes() == (root / "other" / "a.png").read_bytes()


def test_another_finding_can_be_selected_and_its_controls_name_it_not(clone, script, tmp_path):
    root = clone(
        *((1, "COVID-19", "PA", "a.png"), (2, "SARS", "PA", "b.png"), (3, "ARDS", "PA", "c.png")),
        (4, "SARS, ARDS", "PA", "d.png"),
    )
    out, controls = tmp_path / "ards", tmp_path / "controls"
    options = ("--finding", "ARDS", "--controls", controls)
    done = script("build_covid_dataset.py", "-c", root, "-o", out, *options)
    assert done.returncode == 0, done.stderr
    assert set(read_manifest(out)) == {"c.png"}
    assert set(read_manifest(controls)) == {"a.png", "b.png"}


def test_a_view_is_selected_for_the_controls_too(clone, script, tmp_path):
    root = clone(
        *((1, "COVID-19", "PA", "a.png"), (2, "COVID-19", "AP", "b.png")),
        *((3, "SARS", "PA", "c.png"), (4, "SARS", "AP", "d.png")),
    )
    out, controls = tmp_path / "covid", tmp_path / "controls"
    options = ("--view", "AP", "--controls", controls)
    done = script("build_covid_dataset.py", "-c", root, "-o", out, *options)
    assert done.returncode == 0, done.stderr
    assert set(read_manifest(out)) == {"b.png"}
    assert set(read_manifest(controls)) == {"d.png"}


def test_the_images_to_choose_from_are_of_different_patients_before_the_limit(
    clone, script, tmp_path
):
    root = clone(*((p, "COVID-19", "PA", f"{p}-{i}.png") for p in range(5) for i in range(4)))
    out = tmp_path / "covid"
    for seed in (1, 2):
        options = ("--one-per-patient", "--limit", 4, "--seed", seed)
        done = script("build_covid_dataset.py", "-c", root, "-o", out, *options)
        assert done.returncode == 0, done.stderr
        rows = read_manifest(out)
        assert len({row.patient_id for row in rows.values()}) == 4
        assert all(name.endswith("-0.png") for name in rows)
    too_many = ("--one-per-patient", "--limit", 6)
    done = script("build_covid_dataset.py", "-c", root, "-o", out, *too_many)
    assert done.returncode == 2
    assert "6 images asked for, but there are 5" in done.stderr


def test_the_folder_of_images_may_be_a_link(clone, script, tmp_path):
    root = clone((1, "COVID-19", "PA", "a.png"))
    (root / "images").rename(tmp_path / "elsewhere")
    (root / "images").symlink_to(tmp_path / "elsewhere")
    done = script("build_covid_dataset.py", "-c", root, "-o", tmp_path / "covid")
    assert done.returncode == 0, done.stderr
    assert set(read_manifest(tmp_path / "covid")) == {"a.png"}


def test_an_image_without_a_mask_is_not_logged(clone, caplog):
    root = clone((1, "COVID-19", "PA", "a.png"))
    assert cohen.find_masks(root, ["a.png"]) == {}
    assert caplog.text == ""


def test_a_clone_without_its_table_is_one_line_with_the_remedy(tmp_path):
    with pytest.raises(InputError, match=r"metadata.csv: cannot be read \(No such file.*give the"):
        cohen.read_metadata(tmp_path / "metadata.csv")


def test_a_table_without_a_view_column_names_it(tmp_path):
    (tmp_path / "metadata.csv").write_text("patientid,finding,filename\n")
    with pytest.raises(InputError, match="has no view column; use a later version of the repos"):
        cohen.read_metadata(tmp_path / "metadata.csv")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ("--finding", "Covid19"),
            "--finding covid19: no image has it; choose among covid-19, sars",
        ),
        (("--view", "PA", "Front"), "--view Front: no image has it; choose among AP, PA"),
    ],
)
def test_an_unknown_finding_or_view_is_said_with_those_that_exist(
    clone, script, tmp_path, options, said
):
    root = clone(
        (1, "COVID-19", "PA", "a.png"), (2, "SARS", "AP", "b.png"), (3, "todo", "", "c.png")
    )
    done = script("build_covid_dataset.py", "-c", root, "-o", tmp_path / "covid", *options)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == f"error: {said}"


HOSPITAL = "Mount Sinai Hospital, Toronto"


@pytest.mark.parametrize(
    ("cells", "site"),
    [
        ({"location": HOSPITAL, "doi": "10.1/x"}, HOSPITAL),
        ({"location": "Ospedale di Cattinara, Trieste"}, "Ospedale di Cattinara, Trieste"),
        ({"location": "Italy", "doi": "10.1/x", "url": "https://a"}, "publication 10.1/x"),
        ({"location": "", "url": "https://a"}, "publication https://a"),
        ({"location": "Italy"}, ""),
    ],
)
def test_the_site_is_the_hospital_or_else_the_publication(tmp_path, cells, site):
    row = {"patientid": "1", "finding": "COVID-19", "view": "PA", "filename": "x.png", **cells}
    write_table(tmp_path, [row], list(row))
    assert cohen.read_metadata(tmp_path / "metadata.csv")[0].site == site


def test_normals_are_the_images_without_finding_and_say_whose_they_are(clone, script, tmp_path):
    root = clone(
        ("1", "COVID-19", "PA", "a.png"),
        ("1", "No Finding", "PA", "b.png"),
        ("2", "No Finding", "PA", "c.png"),
        ("3", "No Finding", "AP", "d.png"),
        ("4", "SARS", "PA", "e.png"),
    )
    built = tmp_path / "dataset"
    folders = ("--output", built / "covid", "--normals", built / "normal")
    done = script("build_covid_dataset.py", "--covid", root, *folders)
    assert done.returncode == 0, done.stderr
    normal, covid = (read_manifest(built / name) for name in ("normal", "covid"))
    assert sorted(normal) == ["b.png", "c.png"]
    assert "1 of 2 are of patients with\nthe selected finding" in done.stdout
    assert normal["b.png"].patient_id == covid["a.png"].patient_id
    data = load_dataset(built, b"salt")
    assert len(set(data.groups)) == 2


@pytest.mark.parametrize("second", ["--controls", "--normals"])
def test_no_two_folders_are_the_same(clone, script, tmp_path, second):
    root = clone(("1", "COVID-19", "PA", "a.png"), ("2", "No Finding", "PA", "b.png"))
    folders = ("--output", tmp_path / "x", second, tmp_path / "x")
    done = script("build_covid_dataset.py", "--covid", root, *folders)
    assert done.returncode == 2
    assert f"{second} {tmp_path / 'x'}: is also the --output" in done.stderr
