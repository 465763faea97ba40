"""The saved model of a training run, and what it makes of the held-out images."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from covidxray.data.image_statistics import ImageStatistics
from covidxray.errors import InputError
from covidxray.model.acquisition import VIEW, fit_baselines, fit_view_classifier
from covidxray.model.heads import Heads, fit_regions
from covidxray.model.lungs import find_lungs, pool_regions
from covidxray.model.model_file import AuxiliaryModels, ModelMetadata, build_model, save_model
from covidxray.model.outliers import fit_outlier_detector
from covidxray.model.prediction import Prediction
from covidxray.model.predictor import Predictor
from covidxray.model.recipes import RECIPES
from covidxray.model.vgg16 import build_backbone
from covidxray.pipeline.gallery import GalleryCollector
from covidxray.pipeline.runs import Gallery, TrainingRun
from covidxray.pipeline.training import TrainingInputs, head_options, recalibrate

PredictFiles = Callable[[Predictor, list[Path]], Iterator[Prediction | InputError]]


def save_trained_model(path: Path, run: TrainingRun, inputs: TrainingInputs, result: str) -> None:
    """Train the heads that are missing, and write the model with everything that prediction needs.

    Args:
        result: the run's main result in a sentence, for the model's metadata.
    """
    config, data = run.config, run.data
    features, network, streams = inputs.features, inputs.network, inputs.streams
    trained = np.arange(len(data)) if config.fit_all else run.holdout.train
    # The hold-out has already trained the head on the model's own region.
    regions = features.labelled(data.labels)
    own = regions.pop(config.region)
    if config.fit_all:
        regions = {config.region: own} | regions
    options = head_options(config)
    heads = fit_regions(regions, [trained], options, streams.final_fits)
    own_head = run.holdout.heads
    if config.fit_all:
        own_head = recalibrate(
            heads.pop(config.region), own, data.groups, trained, options, streams.final_fits
        )

    backbone = network.backbone
    if network.precision != "float32":  # a saved model is float32, whatever computes with it
        backbone = build_backbone(network.weights, network.recipe)
    pooled = backbone.output
    if config.region != "whole":
        logits = find_lungs(backbone, network.segmenter)
        pooled = pool_regions(backbone, network.recipe, logits)[config.region]
    model = build_model(backbone, pooled, own_head, options.dropout)
    whole = features.regions["whole"][trained]
    outlier_detector = fit_outlier_detector(whole, data.groups[trained], streams.outliers)
    baselines, card = _fit_acquisition(run, features.image_statistics, whole, trained)
    auxiliary = AuxiliaryModels(outlier_detector, network.segmenter, heads, baselines)
    card = {
        "data set": str(data),
        "weights": f"ImageNet, {run.weights[0]}",
        "result": result,
        **card,
    }
    save_model(model, path, _metadata(run, inputs, trained, card), auxiliary)


def _fit_acquisition(
    run: TrainingRun, statistics: list[ImageStatistics], whole: np.ndarray, trained: np.ndarray
) -> tuple[dict[str, Heads], dict[str, str]]:
    """The baselines of how images are taken, of the training images, and what the card says.

    `statistics` are of all images, and `whole` are the training images' features (n, 512).
    """
    data = run.data.select(trained)
    baselines = fit_baselines([statistics[i] for i in trained], data.labels == run.positive)
    views, l2 = [row.view for row in data.rows], RECIPES["portable"].head.l2
    fitted = fit_view_classifier(whole, views, data.labels, l2)
    if not fitted:
        return baselines, {}
    heads, label, (bedside, upright) = fitted
    told = f"AP against PA, of {bedside} + {upright} {data.classes[label]} images"
    return {VIEW: heads, **baselines}, {"view classifier": told}


def _metadata(
    run: TrainingRun, inputs: TrainingInputs, trained: np.ndarray, card: dict[str, str]
) -> ModelMetadata:
    data, hashes = run.data, inputs.features.hashes
    return ModelMetadata(
        classes=data.classes,
        positive=data.classes[run.positive],
        threshold=run.threshold,
        synthetic=data.synthetic,
        recipe=run.config.recipe,
        region=run.config.region,
        salt=inputs.salt.hex(),
        trained_on=[data.rows[i].sha256 for i in trained],
        hashes=[hashes[i].tobytes().hex() for i in trained],
        patients=sorted({data.patients[i] for i in trained} - {""}),
        card=card,
    )


def explain_holdout(
    run: TrainingRun, model: Path, predict_files: PredictFiles
) -> tuple[ModelMetadata, Gallery]:
    """Predict and explain those held-out images that the saved model was not trained on.

    Args:
        model: the saved file.

    Raises:
        InputError: an image can no longer be read.
    """
    data, predictor = run.data, Predictor(model, precision=run.precision)
    trained = set(predictor.metadata.trained_on)
    unseen = [i for i in run.holdout.test if data.rows[i].sha256 not in trained]
    collector = GalleryCollector(data.classes, run.positive)
    predictions = predict_files(predictor, [data.paths[i] for i in unseen])
    for i, prediction in zip(unseen, predictions, strict=True):
        if isinstance(prediction, InputError):
            raise prediction
        if prediction.label is not None:
            collector.add(data.names([i])[0], data.labels[i], prediction)
    return predictor.metadata, collector.gallery()
