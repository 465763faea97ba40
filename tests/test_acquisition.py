"""Baselines of how images are taken: trained with a model, and scored on other images."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from covidxray.data.class_folder import fill_folder
from covidxray.data.images import read_with_statistics
from covidxray.data.manifest import ManifestRow
from covidxray.evaluation.external_scores import BaselineScore
from covidxray.evaluation.intervals import Estimate
from covidxray.model import acquisition
from covidxray.model.predictor import Predictor
from covidxray.report.sentences import strongest_alternative


def statistics_of(picture, tmp_path, n):
    found = []
    for i in range(n):
        (tmp_path / f"{i}.png").write_bytes(picture(i))
        found.append(read_with_statistics(tmp_path / f"{i}.png")[1])
    return found


def test_each_kind_is_a_balanced_logistic_regression(picture, tmp_path):
    statistics = statistics_of(picture, tmp_path, 30)
    truth = np.arange(30) < 8
    fitted = acquisition.fit_baselines(statistics, truth)
    assert tuple(fitted) == acquisition.KINDS
    for kind in fitted:
        rows = np.array([getattr(one, kind) for one in statistics], float)
        x = StandardScaler().fit_transform(rows)
        expected = LogisticRegression(class_weight="balanced", tol=1e-8, max_iter=5000)
        expected = expected.fit(x, truth).predict_proba(x)[:, 1]
        features = np.zeros(512, np.float32)
        scores = [acquisition.score_image(fitted, features, one)[kind] for one in statistics]
        assert scores == pytest.approx(expected, abs=1e-3)


VIEWS = ["AP"] * 6 + ["AP Supine"] * 2 + ["PA"] * 6 + [""] * 2


def test_views_are_told_apart_within_the_class_that_has_both():
    rng = np.random.default_rng(0)
    views = VIEWS + ["PA"] * 16
    labels = np.array([1] * 16 + [0] * 16)
    features = rng.normal(size=(32, 512)).astype(np.float32)
    features[:8, 3] += 9
    features[16:, 3] = 1e6  # of another class, which must not matter
    heads, label, counts = acquisition.fit_view_classifier(features, views, labels, 0.1)
    assert (label, counts) == (1, (8, 6))
    scores = heads.predict(features[:14], 0)[:, 1]
    assert scores[:8].min() > scores[8:].max()
    other = features.copy()
    other[16:] = rng.normal(size=(16, 512))
    again = acquisition.fit_view_classifier(other, views, labels, 0.1)[0]
    assert (again.kernels[0] == heads.kernels[0]).all()


@pytest.mark.parametrize("views", [["PA"] * 16, ["AP"] * 4 + ["PA"] * 12, [""] * 16])
def test_without_five_images_of_each_view_there_is_no_classifier_of_views(views):
    features, labels = np.zeros((16, 512), np.float32), np.zeros(16, int)
    assert acquisition.fit_view_classifier(features, views, labels, 0.1) is None


@pytest.mark.slow
def test_the_saved_model_holds_the_baselines_of_its_training_images(trained):
    predictor = Predictor(trained[0])
    paths = sorted(trained[1].glob("*/*.jpg"))
    found = list(predictor.predict_files(paths, with_statistics=True))
    assert {frozenset(one.acquisition) for one in found} == {frozenset(acquisition.KINDS)}
    for one in found:
        for kind in acquisition.KINDS:
            row = getattr(one.statistics, kind)[None]
            expected = predictor.baselines[kind].predict(row, 0)[0, 1]
            assert one.acquisition[kind] == pytest.approx(expected)


@pytest.mark.slow
def test_views_of_the_manifest_give_the_model_a_classifier_of_views(trained, script, tmp_path):
    for name in ("covid", "normal"):
        files = sorted((trained[1] / name).glob("*.jpg"))
        drawn = []
        for i in range(12):
            views = ("AP", "PA")[i % 2] if name == "covid" else "PA"
            listed = ManifestRow(f"{i}.png", "s", "", f"{name}{i}", views, synthetic="yes")
            drawn.append((listed, files[i % 6].read_bytes()))
        fill_folder(tmp_path / "set" / name, drawn)
    quick = ("--repeats", 0, "--epochs", 1, "--fit-all", "--no-cache", "-d", "set")
    done = script("train_covid19.py", *quick, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    predictor = Predictor(tmp_path / "covid19.keras")
    told = predictor.metadata.card["view classifier"]
    assert told == "AP against PA, of 6 + 6 covid images"
    (one,) = predictor.predict_files([next((tmp_path / "set/covid").glob("*.png"))])
    assert set(one.acquisition) == {acquisition.VIEW}


def estimate(*ends):
    return Estimate(*ends)


def test_the_verdict_names_the_best_baseline_that_is_not_excluded():
    scores = {
        "view": BaselineScore(estimate(0.9, 0.8, 0.95), estimate(0.05, 0.01, 0.1)),
        "histogram": BaselineScore(estimate(0.87, 0.7, 0.95), estimate(0.08, -0.02, 0.2)),
        "frame": BaselineScore(estimate(0.6, 0.5, 0.7), estimate(0.35, 0.2, 0.5)),
    }
    said = strongest_alternative(scores, 44)
    assert said.startswith("Not excluded: histogram of grey levels")
    assert "these 44 patients cannot tell which is better" in said
    better = strongest_alternative({"view": scores["view"]}, 44)
    assert better == "The model is better than each baseline of how images are taken."
    worse = BaselineScore(estimate(0.99, 0.9, 1.0), estimate(-0.1, -0.2, -0.05))
    assert strongest_alternative({"view": worse}, 44).endswith("the model is worse.")
