"""Train a COVID-19 X-ray classifier and report how far its scores can be trusted."""

import secrets
from typing import TYPE_CHECKING

from covidxray import DISCLAIMER, DRAWINGS, cli, training_options
from covidxray.files import atomic_writes
from covidxray.process import info, quiet_backend, run_script

if TYPE_CHECKING:
    from covidxray.pipeline.runs import TrainingRun
    from covidxray.pipeline.saving import PredictFiles
    from covidxray.pipeline.training import TrainingInputs


def main() -> None:
    config = training_options.read_config(training_options.make_parser(__doc__).parse_args())

    from covidxray.data.loading import load_dataset
    from covidxray.evaluation import splits
    from covidxray.model.weights import load_weights
    from covidxray.pipeline.engines import open_engine

    folders = [config.dataset, *(folder for _, folder in config.add)]
    engine = open_engine(config.engine, config.ray_address, folders, config.features)
    info("loading images...")
    salt = secrets.token_bytes(16)  # of the digests of patients: not from --seed, so a secret
    data = load_dataset(config.dataset, salt, added=config.add, inspect_files=engine.inspect_files)
    data.index(config.positive)  # fails if there is no such class
    cli.show_dataset(data)
    config = config.with_defaults(repeats=splits.default_repeats(len(data)))
    part = data.development
    splits.check_patients(part.labels, part.groups, part.classes, config.patients_needed)

    info("loading VGG16...")
    weights = load_weights(config.weights)
    with quiet_backend():
        from covidxray.model.network import build_network
        from covidxray.pipeline import training

        network = build_network(config.recipe, weights, config.precision)
    if data.synthetic:
        print(DRAWINGS)
    streams = training.RandomStreams.from_seed(config.seed)
    features = training.extract_features(
        config, network, data, engine.extract, streams.augmentation
    )
    data = cli.leave_out_unread(data, features.unread)

    inputs = training.prepare_inputs(config, data, features, network, streams, salt)
    run = train(inputs)
    save_outputs(run, inputs, engine.predict_files)
    print(f"\n{DISCLAIMER}")


def train(inputs: "TrainingInputs") -> "TrainingRun":
    """Train and evaluate heads on the features, look for shortcuts, and print what is found."""
    from covidxray.audit.audit import run_audit
    from covidxray.pipeline import cross_validation as validation
    from covidxray.pipeline import strata, training, transplants
    from covidxray.pipeline.runs import TrainingRun
    from covidxray.report import text

    config, data, features = inputs.config, inputs.data, inputs.features
    streams, network = inputs.streams, inputs.network
    info("training heads...")
    cross_validation = validation.run_cross_validation(config, data, features, streams.validation)
    holdout = training.run_holdout(config, data, features, cross_validation, streams.holdout)

    info("exchanging lungs...")
    exchanged = transplants.exchange_lungs(
        config, network, data, features, cross_validation, streams.transplants
    )
    info("looking for shortcuts...")
    positive, statistics = data.index(config.positive), features.image_statistics
    audit = run_audit(inputs.loaded, statistics, positive, streams.audit)
    run = TrainingRun(
        config=config,
        data=data,
        copies=inputs.copies,
        positive=positive,
        holdout=holdout,
        cross_validation=cross_validation,
        audit=audit,
        versus_shortcut=validation.compare_with_best(cross_validation, data, config.region, audit),
        strata=strata.compare_within_strata(config, data, cross_validation, audit, streams.strata),
        sites=strata.leave_sites_out(config, data, features, streams.strata),
        transplants=exchanged,
        lung_dice=training.compare_with_lung_masks(data, features),
        weights=(network.weights.name, network.weights.sha256),
        precision=network.precision,
    )
    print(text.format_training(run))
    return run


def save_outputs(
    run: "TrainingRun", inputs: "TrainingInputs", predict_files: "PredictFiles"
) -> None:
    """Write plot, model, metrics and report: all of them, or none if one cannot be written."""
    from covidxray.pipeline import saving
    from covidxray.report import evidence, html, plots, results, text

    info("saving plot, model and metrics...")
    with atomic_writes() as output:
        with output(run.config.plot) as path:
            note = DRAWINGS if run.data.synthetic else "Validation: the held-out images."
            plots.plot_history(run.holdout.history, str(run.data), note, path)
        with output(run.config.model) as model:
            saving.save_trained_model(model, run, inputs, result=text.training_sentence(run))
        with output(run.config.metrics) as path:
            results.write_json(path, results.training_results(run))
        if run.config.report:
            with output(run.config.report) as path:
                metadata, gallery = saving.explain_holdout(run, model, predict_files)
                html.write_report(path, html.training_content(run, metadata, gallery))
        evidence.save_pictures(run.config.transplant_pictures, run.transplants)


if __name__ == "__main__":
    run_script(main)
