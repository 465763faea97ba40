"""Write the files of a training run: all of them, or none if one cannot be written."""

from pathlib import Path

from covidxray import DRAWINGS
from covidxray.errors import InputError
from covidxray.files import atomic_writes
from covidxray.pipeline import saving
from covidxray.pipeline.runs import TrainingRun
from covidxray.pipeline.saving import PredictFiles
from covidxray.pipeline.training import TrainingInputs
from covidxray.report import evidence, figures, html, plots, results, text


def output_folder(folder: Path | str) -> Path:
    """A folder for outputs, which is created; InputError if it cannot be."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"cannot be created ({error.strerror}); choose another place"
        raise InputError(f"{folder}: {reason}") from error
    return Path(folder)


def save_training(run: TrainingRun, inputs: TrainingInputs, predict_files: PredictFiles) -> None:
    """Write plot, model, metrics and, if it is wanted, the report, where `run.config` names them.

    `predict_files` explains the held-out images for the report.
    """
    with atomic_writes() as output:
        with output(run.config.plot) as path:
            note = DRAWINGS if run.data.synthetic else "Validation: the held-out images."
            plots.plot_history(run.holdout.history, str(run.data), note, path)
        with output(run.config.model) as model:
            saving.save_trained_model(model, run, inputs, text.training_sentence(run))
        with output(run.config.metrics) as path:
            results.write_json(path, results.training_results(run))
        if run.config.report:
            with output(run.config.report) as path:
                metadata, gallery = saving.explain_holdout(run, model, predict_files)
                content = html.training_content(run, metadata, gallery)
                html.write_page(path, html.render(content))
        evidence.save_pictures(run.config.transplant_pictures, run.transplants)
        figures.save_training_figures(run.config.plots, run)
