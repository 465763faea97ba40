"""The evaluation of a saved model on labelled images from elsewhere, as a function."""

from pathlib import Path

from covidxray import cli
from covidxray.api import display
from covidxray.api.arguments import Option, parse_options, refuse_outputs
from covidxray.api.outputs import output_folder
from covidxray.files import check_outputs
from covidxray.options import external as options
from covidxray.pipeline.evaluate_model import evaluate_model
from covidxray.pipeline.external_run import ExternalRun
from covidxray.report import comparison, external
from covidxray.report.evidence import draw_forest


class EvaluationResult:
    """What an evaluation found: `print` shows the script's text, a notebook tables and figures.

    Attributes:
        runs: every number, of one data set each (`pipeline.external_run.ExternalRun`).
    """

    def __init__(self, runs: list[ExternalRun]):
        self.runs = runs

    def save(self, folder: Path | str) -> Path:
        """Write evaluation.json and evaluation.html into a folder; the page's path is returned.

        Raises:
            InputError: the folder cannot be written to.
        """
        folder = output_folder(folder)
        json, page = folder / "evaluation.json", folder / "evaluation.html"
        check_outputs(json, page)
        comparison.save_evaluation(self.runs, json, page)
        return page

    def __str__(self) -> str:
        texts = [external.format_text(run) for run in self.runs]
        return "\n\n".join(texts + [comparison.format_table(self.runs)] * (len(texts) > 1))

    def _repr_html_(self) -> str:
        told, drawn = "", list(comparison.draw_forests(self.runs).values())
        if len(self.runs) == 1:
            told = f"<p>{display.escape(external.describe_evidence(self.runs[0]))}</p>"
            groups = external.external_figures(self.runs[0]).evidence
            drawn = [draw_forest(groups)] if groups else drawn
        header = ("data set", "positive + other images", "AUC", "false-positive rate")
        compared = display.table(comparison.rows_of(self.runs), header)
        synthetic = any(run.data.synthetic or run.metadata.synthetic for run in self.runs)
        return display.page(told, *map(display.picture, drawn), compared, synthetic=synthetic)


def evaluate(model: Path | str, *datasets: Path | str, **settings: Option) -> EvaluationResult:
    """Score a saved model on folders of class folders, as evaluate_covid19.py does.

    Args:
        model: file that train_covid19.py or `TrainingResult.save` wrote.
        datasets: one folder for each hospital.
        settings: options of evaluate_covid19.py (docs/options.md) but for its outputs, such as
            `transplant=0` or `reference="our-normals"`; how each is written says
            `api.arguments.parse_options`.

    Raises:
        InputError: the model or a data set cannot be used, or an option does not fit.
    """
    refuse_outputs(settings)
    parser = options.make_parser(None)
    given = parse_options(parser, model=model, dataset=list(datasets), **settings)
    runs = evaluate_model(options.make_config(given), cli.report_dataset)
    return EvaluationResult(list(runs))
