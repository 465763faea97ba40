"""A saved model on labelled images: what evaluate_covid19.py and `evaluate` do."""

from collections.abc import Iterator

from tqdm import tqdm

from covidxray.data.dataset import Announce
from covidxray.data.loading import load_dataset
from covidxray.pipeline.external_run import ExternalConfig, ExternalRun
from covidxray.pipeline.open_predictor import open_predictor


def evaluate_model(config: ExternalConfig, announce: Announce) -> Iterator[ExternalRun]:
    """Evaluate a model on each of the data sets, one after the other.

    Raises:
        InputError: the model or a data set cannot be used, or options do not fit them.
    """
    opened = open_predictor(config, config.dataset)
    from covidxray.pipeline import external  # imports Keras

    predictor, engine, reference = opened.predictor, opened.engine, opened.reference
    metadata = predictor.metadata
    for folder in config.dataset:
        data = load_dataset(
            folder,
            bytes.fromhex(metadata.salt),
            classes=metadata.classes,
            inspect_files=engine.inspect_files,
        )
        announce(data, None)
        if reference:
            reference.check(data.rows, data.patients)
        found = engine.predict_files(predictor, data.paths, with_statistics=True)
        found = tqdm(found, total=len(data), desc="VGG16", unit="image")
        predictions, gallery, unread = external.collect_predictions(found, data, predictor.positive)
        if unread:
            data = data.without(unread)
            announce(data, unread)
        yield external.evaluate_predictions(
            predictor, data, predictions, gallery, config, reference
        )
