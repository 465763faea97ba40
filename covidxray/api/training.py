"""Training as a function."""

from dataclasses import replace
from pathlib import Path

from covidxray import DRAWINGS, cli
from covidxray.api import display, outputs
from covidxray.api.arguments import Option, parse_options, refuse_outputs
from covidxray.data.dataset import Dataset
from covidxray.files import check_outputs
from covidxray.options import training as options
from covidxray.pipeline.runs import TrainingRun
from covidxray.pipeline.train_model import TrainedModel, train_model
from covidxray.report import figures, html, text
from covidxray.report.evidence import draw_forest


class TrainingResult:
    """What a training run found: `print` shows the script's text, a notebook a table and a figure.

    Attributes:
        run: every number of the run (`pipeline.runs.TrainingRun`).
    """

    def __init__(self, trained: TrainedModel):
        self._trained = trained
        self.run: TrainingRun = trained.run

    @property
    def data(self) -> Dataset:
        """The images that were used, with their labels, patients and manifest rows."""
        return self.run.data

    def save(self, folder: Path | str) -> Path:
        """Write plot.png, covid19.keras, metrics.json and report.html into a folder, or nothing.

        Returns:
            The path of the model.

        Raises:
            InputError: the folder cannot be written to.
        """
        folder = outputs.output_folder(folder)
        config = replace(
            self.run.config,
            plot=folder / "plot.png",
            model=folder / "covid19.keras",
            metrics=folder / "metrics.json",
            report=folder / "report.html",
        )
        check_outputs(*config.outputs)
        run = replace(self.run, config=config)
        outputs.save_training(run, self._trained.inputs, self._trained.predict_files)
        return config.model

    def __str__(self) -> str:
        note = f"{DRAWINGS}\n" if self.data.synthetic else ""
        return f"{self.data}\n{note}{text.format_training(self.run)}"

    def _repr_html_(self) -> str:
        found = figures.training_figures(self.run).evidence
        holdout = {"": html.defined_scores(self.run.holdout.scores, "held-out ")}
        forest = draw_forest(found) if found else draw_forest(holdout, "share of the images", None)
        told = f"<p>{display.escape(f'{self.data}. {text.training_sentence(self.run)}')}</p>"
        parts = told, display.picture(forest), display.estimates(found or holdout)
        return display.page(*parts, synthetic=self.data.synthetic)


def train(dataset: Path | str, **settings: Option) -> TrainingResult:
    """Train on a folder of class folders, as train_covid19.py does; nothing is written.

    Args:
        dataset: the folder.
        settings: options of train_covid19.py (docs/options.md) but for its outputs, such as
            `region="whole"`, `fit_all=True` or `add={"normal": "our-normals"}`; how each is
            written says `api.arguments.parse_options`.

    Raises:
        InputError: the data set cannot be used, or an option does not fit.
    """
    refuse_outputs(settings)
    parser = options.make_parser(None)
    config = options.make_config(parse_options(parser, dataset=dataset, **settings))
    return TrainingResult(train_model(config, cli.report_dataset))
