"""The page for a lecture in a browser: what it shows, that it keeps nothing, and who can use it."""

import importlib.util
import json
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from test_predict import SECRETS, write_dicom

from covidxray import DISCLAIMER, DRAWINGS, load_predictor
from covidxray.api import lecture
from covidxray.data.images import read_image

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
missing = [name for name in ("streamlit", "playwright") if not importlib.util.find_spec(name)]
missing += [] if CHROMIUM else ["Chromium"]
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}"),
]
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-sync"]
QUIET += ["--disable-background-networking", "--disable-component-update"]
SIZES = ((360, 740), (1024, 768), (1200, 800))  # a phone, a projector, a laptop
TABS = ("X-rays", "Numbers", "Shortcut")
# The lowest contrast (WCAG 2) of a text that is seen with what is behind it, and that text.
CONTRAST = """() => {
  const light = c => c.map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const parts = text => text.match(/[\\d.]+/g).map(Number);
  const behind = e => { for (; e; e = e.parentElement) {
    const c = parts(getComputedStyle(e).backgroundColor); if (c.length == 3 || c[3] == 1) return c }
    return [255, 255, 255] };
  let worst = [21, ""];
  for (const e of document.querySelectorAll(".stApp *")) {
    const text = [...e.childNodes].filter(n => n.nodeType == 3).map(n => n.data).join("").trim();
    // An icon needs no more than 3, and what is for screen readers alone has 1 pixel.
    if (!text || e.dataset.testid == "stIconMaterial" || e.clientWidth == 1) continue;
    if (!e.checkVisibility({visibilityProperty: true, opacityProperty: true})) continue;
    const under = behind(e), ink = parts(getComputedStyle(e).color), a = ink[3] ?? 1;
    const front = ink.slice(0, 3).map((v, i) => a * v + (1 - a) * under[i]);
    const [low, high] = [light(front), light(under.slice(0, 3))].sort((x, y) => x - y);
    const ratio = (high + 0.05) / (low + 0.05);
    if (ratio < worst[0]) worst = [ratio, text];
  }
  return worst;
}"""


@pytest.fixture(scope="module")
def place(trained, script, tmp_path_factory):
    """Model, data set, normal images of a site, and an empty home for the server."""
    root = tmp_path_factory.mktemp("app")
    drawn = ("make_demo_dataset.py", "-s", 6, "-o", root / "other", "--seed", 7)
    assert script(*drawn).returncode == 0
    (root / "site").mkdir()
    (root / "home").mkdir()
    for path in (root / "other/normal").glob("*-0.jpg"):
        shutil.copy(path, root / "site")
    return SimpleNamespace(root=root, model=trained[0], dataset=trained[1], site=root / "site")


@pytest.fixture(scope="module")
def serve(place):
    """A function that starts the page with options: its address, its log, its process number."""
    started = []

    def start(*options):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [sys.executable, "-m", "streamlit", "run", ROOT / "app_covid19.py"]
        home = place.root / "home"
        process = subprocess.Popen(
            [*command, "--server.port", str(port), "--", *options],
            cwd=home,
            env={**os.environ, "HOME": str(home), "TMPDIR": str(home)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        started.append(process)
        log, address = [], f"http://127.0.0.1:{port}"
        threading.Thread(target=lambda: log.extend(process.stdout), daemon=True).start()
        for _ in range(100):
            try:
                urllib.request.urlopen(f"{address}/_stcore/health", timeout=5).close()
                return SimpleNamespace(address=address, log=log, number=process.pid)
            except OSError:
                time.sleep(0.3)
        raise AssertionError(b"".join(log).decode())

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def server(serve, place):
    options = ("--model", place.model, "--dataset", place.dataset, "--reference", place.site)
    return serve(*options, "--false-positives", "0.25")


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        yield play.chromium.launch(executable_path=CHROMIUM, args=QUIET)


@pytest.fixture
def page(browser, server):
    """The page, ready, and all hosts that it asked for anything."""
    page = browser.new_page(viewport={"width": 1024, "height": 768})
    page.hosts = set()
    page.on("request", lambda request: page.hosts.add(request.url.split("/")[2]))
    page.on("websocket", lambda socket: page.hosts.add(socket.url.split("/")[2]))
    page.set_default_timeout(60_000)
    page.goto(server.address)
    page.get_by_role("tab").first.wait_for()
    yield page
    page.close()


def drop(page, *files):
    page.locator("input[type=file]").set_input_files(files)


def shown(page, name):
    """The text of the part of the page about an upload."""
    part = page.locator("section", has=page.get_by_role("heading", name=name, exact=True))
    part.wait_for()
    return part


def open_tab(page, name):
    page.get_by_role("tab", name=name).click()
    return page.get_by_role("tabpanel")


def test_an_upload_is_shown_with_its_lungs_heat_map_probability_and_p_value(page, place):
    path = sorted((place.dataset / "covid").glob("*.jpg"))[0]
    (found,) = load_predictor(place.model, reference=place.site, false_positives=0.25).predict(path)
    drop(page, path)
    part = shown(page, path.name)
    assert part.locator("strong").inner_text() == found.row["class"]
    for column in ("P(covid)", "P(normal)", "p-value"):
        assert f"{column} = {found.row[column]:.2f}" in part.inner_text()
    alts = [image.get_attribute("alt") for image in part.get_by_role("img").all()]
    assert alts == [f"X-ray {path.name}", f"Heat map of {path.name}"]
    assert DRAWINGS in page.inner_text("body")
    assert "Threshold from" in page.inner_text("body")


def test_a_file_that_cannot_be_read_is_one_sentence_in_place_and_the_others_go_on(page, place):
    path = sorted((place.dataset / "covid").glob("*.jpg"))[0]
    cut = place.root / "cut.jpg"
    cut.write_bytes(path.read_bytes()[:2000])
    write_dicom(place.root / "study", read_image(path)[..., 0])
    drop(page, cut, path, place.root / "study")
    assert shown(page, path.name).get_by_role("img").count() == 2
    assert shown(page, "study").get_by_role("img").count() == 2
    (sentence,) = page.locator(".warning", has_text="cut.jpg").all()
    assert sentence.inner_text() == "cut.jpg: is not an image that can be decoded; remove it"
    assert not any(secret in page.content() for secret in SECRETS)


def test_what_is_no_x_ray_gets_a_warning(page, place):
    colours = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(colours).save(place.root / "colour.png")
    drop(page, place.root / "colour.png")
    assert "Warning: not a chest X-ray: in colour" in shown(page, "colour.png").inner_text()


@contextmanager
def no_byte_in_a_file(number):
    """A process cannot write a byte to any file in the block, be it deleted at once."""
    limits = resource.prlimit(number, resource.RLIMIT_FSIZE)
    resource.prlimit(number, resource.RLIMIT_FSIZE, (0, limits[1]))
    yield
    resource.prlimit(number, resource.RLIMIT_FSIZE, limits)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of another process need Linux")
def test_no_upload_reaches_a_file_or_the_log(page, place, server):
    noise = np.random.default_rng(0).integers(0, 256, (1500, 1500), dtype=np.uint8)
    large, broken = place.root / "Doe-Jane-4711.png", place.root / "Doe-Jane-4712.png"
    Image.fromarray(noise).save(large)
    broken.write_bytes(large.read_bytes()[:-5000])
    assert broken.stat().st_size > 2 * 2**20  # beyond what servers keep in memory by default
    before = sorted((place.root / "home").rglob("*"))
    with no_byte_in_a_file(server.number):
        drop(page, large, broken)
        shown(page, large.name)
        page.locator(".warning", has_text=broken.name).wait_for()
    assert sorted((place.root / "home").rglob("*")) == before
    assert b"Doe" not in b"".join(server.log)
    assert len(server.log) > 2


def test_the_page_asks_no_other_machine_and_none_can_open_it(page, place, server):
    drop(page, sorted((place.dataset / "covid").glob("*.jpg"))[0])
    shown(page, sorted((place.dataset / "covid").glob("*.jpg"))[0].name)
    for name in TABS:
        open_tab(page, name)
    page.wait_for_timeout(2000)
    assert any(b"started on 127.0.0.1:" in line for line in server.log)
    assert {host for host in page.hosts if host} == {server.address.removeprefix("http://")}


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_nothing_is_cut_and_the_disclaimer_is_always_seen(page, place, width, height):
    page.set_viewport_size({"width": width, "height": height})
    path = sorted((place.dataset / "covid").glob("*.jpg"))[0]
    drop(page, path)
    shown(page, path.name)
    for name in TABS:
        panel = open_tab(page, name)
        if name == "Shortcut":
            page.get_by_role("button", name="Next image").click()
            page.get_by_text("Truth:").first.wait_for()
        for part in (page.locator("html"), page.locator(".stMain"), panel):
            assert part.evaluate("e => e.scrollWidth <= e.clientWidth")
        for tab in page.get_by_role("tab").all():
            box = tab.bounding_box()
            assert 0 <= box["x"] <= box["x"] + box["width"] <= width
        for _ in range(2):
            said = page.get_by_text(DISCLAIMER).bounding_box()
            assert 0 <= said["y"] <= said["y"] + said["height"] <= height
            page.locator(".stMain").evaluate("e => e.scrollTo(0, e.scrollHeight)")


def test_type_is_large_enough_for_a_projector_and_has_contrast(page, place):
    path = sorted((place.dataset / "covid").glob("*.jpg"))[0]
    drop(page, path, ROOT / "README.md")
    part = shown(page, path.name)
    size = "e => parseFloat(getComputedStyle(e).fontSize)"
    assert part.locator(".large").evaluate(size) >= 24
    for name in TABS:
        open_tab(page, name)
        assert page.get_by_role("tab", name=name).locator("p").evaluate(size) >= 20
        ratio, text = page.evaluate(CONTRAST)
        assert ratio >= 4.5, text


def test_the_keyboard_reaches_the_upload_the_tabs_and_the_buttons(page):
    upload = page.get_by_test_id("stFileUploaderDropzone").get_by_test_id("stBaseButton-secondary")
    upload.wait_for()
    for _ in range(6):
        page.keyboard.press("Tab")
        if upload.evaluate("e => e == document.activeElement"):
            break
    assert upload.evaluate("e => e == document.activeElement")
    # The click that opens the dialog; Playwright does not always report the dialog itself.
    page.evaluate(
        "document.addEventListener('click', e => window.opens ||= e.target.type == 'file', true)"
    )
    page.keyboard.press("Enter")
    page.wait_for_function("window.opens", timeout=5000)
    page.get_by_role("tab").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.get_by_role("tab", name="Shortcut").get_attribute("aria-selected") == "true"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.get_by_text("Truth:").first.wait_for()


def test_the_numbers_are_those_of_the_training(page, place):
    numbers = json.loads(place.model.with_name("metrics.json").read_text())
    text = open_tab(page, "Numbers").inner_text()
    assert numbers["sentence"] in text
    assert numbers["shortcuts"]["verdict"] in text
    for region, name in lecture.REGION_NAMES.items():
        area = numbers["shortcuts"]["regions"][region]
        assert re.search(f"{name}\\s+{area['value']:.2f} \\({area['low']:.2f}", text)
    assert open_tab(page, "Numbers").get_by_role("img").count() == 1


def test_the_count_is_of_the_images_that_trained_nothing(page, place):
    predictor = load_predictor(place.model, reference=place.site, false_positives=0.25)
    data = lecture.unseen_images(place.dataset, predictor.metadata)
    right = np.array([lecture.guess(predictor, data, i).right for i in range(len(data))])
    panel = open_tab(page, "Shortcut")
    page.get_by_role("button", name="Ten more images").click()
    page.get_by_text(f"{len(data)} of {len(data)} images that trained neither").wait_for()
    assert panel.get_by_text("Truth:").count() == len(data) < 12
    for name, hits in zip(("the model", "the 8 x 8 thumbnail"), right.T, strict=True):
        row = panel.get_by_role("row", name=name).inner_text()
        assert f"{hits.sum()} of {len(data)}: {hits.mean():.2f} (" in row


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--model", "none.keras"), "none.keras: no such file; give the .keras file"),
        (("--reference", "none"), "argument --reference: none: no such folder; see"),
        (("--help",), "--help: is for a terminal; see docs/options.md"),
        (("--unknown",), "unrecognized arguments: --unknown; see docs/options.md"),
    ],
)
def test_an_option_that_does_not_fit_is_a_sentence_on_the_page(browser, serve, options, said):
    page = browser.new_page()
    page.goto(serve(*options).address)
    page.locator(".warning", has_text=said).wait_for(timeout=60_000)
    assert DISCLAIMER in page.inner_text("body")
    page.close()
