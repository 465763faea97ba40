"""One saved model at several hospitals, next to each other: as text, JSON and HTML.

There is no pooled estimate: hospitals differ in more than chance, and their mean describes none.
"""

from collections.abc import Sequence
from pathlib import Path

from covidxray.errors import printable
from covidxray.evaluation.intervals import Estimate
from covidxray.files import atomic_writes
from covidxray.pipeline.external_run import ExternalRun
from covidxray.report import evidence, external, html, results
from covidxray.report.picture import Picture

UNDEFINED = "not defined"
NAME = 22  # characters of a data set's name in the table


def _scores(run: ExternalRun) -> dict[str, Estimate | None]:
    """The two scores that the hospitals are compared by."""
    return {"AUC": run.scores.auc, "false-positive rate": run.scores.false_positive_rate}


def _names(runs: Sequence[ExternalRun]) -> list[str]:
    """The data sets' names, numbered where two have the same."""
    names = [run.data.name for run in runs]
    return [
        f"{name} ({names[: k + 1].count(name)})" if names.count(name) > 1 else name
        for k, name in enumerate(names)
    ]


def rows_of(runs: Sequence[ExternalRun]) -> list[tuple[str, ...]]:
    """Name, positive and other images, and each score, of each hospital."""
    rows = []
    for name, run in zip(_names(runs), runs, strict=True):
        positive = int((run.data.labels == run.positive).sum())
        scores = [e.short if e else UNDEFINED for e in _scores(run).values()]
        rows.append((name, f"{positive} + {len(run.data) - positive}", *scores))
    return rows


def format_table(runs: Sequence[ExternalRun]) -> str:
    """A table with a line for each hospital; at most 80 columns."""
    header = ("data set", "images", *_scores(runs[0]))
    lines = [f"{len(runs)} data sets, each evaluated for itself:", ""]
    for name, images, auc, rate in (header, *rows_of(runs)):
        name = name if len(name) <= NAME else f"{name[: NAME - 3]}..."
        lines.append(printable(f"{name:<{NAME + 1}}{images:>13}{auc:>21}{rate:>22}"))
    return "\n".join(lines)


def draw_forests(runs: Sequence[ExternalRun]) -> dict[str, Picture]:
    """A forest plot of each score over the hospitals where it is defined."""
    forests = {}
    for measure in _scores(runs[0]):
        pairs = zip(_names(runs), runs, strict=True)
        rows = {name: found for name, run in pairs if (found := _scores(run)[measure])}
        if rows:
            chance = 0.5 if measure == "AUC" else None
            forests[measure] = evidence.draw_forest({"": rows}, measure, chance)
    return forests


def report_page(runs: Sequence[ExternalRun]) -> str:
    """The HTML report of an evaluation; of several data sets, one page that compares them."""
    if len(runs) == 1:
        return html.render(external.report_content(runs[0]))
    texts = [external.format_text(run) for run in runs]
    return html.render_comparison(rows_of(runs), draw_forests(runs), texts)


def save_evaluation(runs: Sequence[ExternalRun], json: Path | None, report: Path | None) -> None:
    """Write what is wanted of an evaluation: all of it, or nothing if a file cannot be written."""
    with atomic_writes() as output:
        if json:
            with output(json) as path:
                found = [external.json_results(run) for run in runs]
                results.write_json(path, found[0] if len(found) == 1 else {"datasets": found})
        if report:
            with output(report) as path:
                html.write_page(path, report_page(runs))
        for run in runs:
            exchanged = run.evidence.transplants if run.evidence else None
            evidence.save_pictures(run.config.transplant_pictures, exchanged)
        external.save_figures(dict(zip(_names(runs), runs, strict=True)))
