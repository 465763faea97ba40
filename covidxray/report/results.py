"""The results of a run as JSON."""

import json
import platform
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from covidxray.audit.result import AuditResult
from covidxray.data.dataset import Dataset
from covidxray.evaluation.regions import RegionComparison
from covidxray.pipeline.runs import TrainingRun, TransplantRun
from covidxray.report.sentences import audit_advice, audit_verdict
from covidxray.report.text import describe_run, training_sentence


def training_results(run: TrainingRun) -> dict[str, Any]:
    """The JSON of a training run: its numbers and what they depend on."""
    data, holdout, cross_validation = run.data, run.holdout, run.cross_validation
    return {
        "dataset": describe_data(data, run.copies),
        "options": asdict(run.config),
        "weights": dict(zip(("name", "sha256"), run.weights, strict=True)),
        "precision": run.precision,
        "versions": library_versions(),
        "split": {"train": data.names(holdout.train), "test": data.names(holdout.test)},
        "threshold": run.threshold,
        "predictive_values": {name: asdict(e) for name, e in run.predictive_values.items()},
        "held_out": asdict(holdout.scores),
        "cross_validation": asdict(cross_validation.scores) if cross_validation else None,
        "shortcuts": audit_results(run.audit, describe_run(run), run.regions),
        "sentence": training_sentence(run),
        "versus_shortcut": run.versus_shortcut and asdict(run.versus_shortcut),
        "strata": run.strata and asdict(run.strata),
        "transplants": run.transplants and asdict_scores(run.transplants),
        "sites": [asdict(site) for site in run.sites],
        "dice": run.lung_dice and asdict(run.lung_dice),
    }


def asdict_scores(run: TransplantRun) -> dict[str, Any]:
    """The JSON of a transplant test, without its pictures."""
    return {region: asdict(scores) for region, scores in run.regions.items()}


def audit_results(
    audit: AuditResult, about_lungs: str = "", regions: RegionComparison | None = None
) -> dict[str, Any]:
    """The JSON of an audit, with the comparison of a model's regions where there is one.

    `about_lungs` ends its verdict (`sentences.describe_lungs`).
    """
    names = ("positive", "images", "folds", "repeats", "permutations", "level", "alarm", "power")
    return {
        **{name: getattr(audit, name) for name in names},
        "verdict": audit_verdict(audit, about_lungs),
        "advice": audit_advice(audit),
        "baselines": [
            {"name": b.name, "auc": asdict(b.auc), "p_value": b.p_value} for b in audit.baselines
        ],
        "findings": asdict(audit.findings),
        "regions": regions and asdict(regions),
    }


def library_versions() -> dict[str, str]:
    """Versions of Python, of the libraries that numbers depend on, and of Keras' backend."""
    import keras  # slow to import, and the report can do everything else without it

    names = ("keras", "numpy", "opencv-python", "pillow", "scikit-learn", keras.config.backend())
    return {"python": platform.python_version()} | {name: version(name) for name in names}


def write_json(path: Path, results: dict[str, Any]) -> None:
    """Write results, which may hold NumPy arrays and numbers and paths, as JSON."""

    def convert(value: Any) -> Any:
        return value.tolist() if hasattr(value, "tolist") else str(value)

    path.write_text(json.dumps(results, indent=1, default=convert), encoding="utf-8")


def describe_data(data: Dataset, copies: int) -> dict[str, Any]:
    """The JSON of a data set; `copies` images have a copy under another patient."""
    return {
        "name": data.name,
        "classes": data.classes,
        "sha256": data.sha256,
        "images": np.bincount(data.labels, minlength=len(data.classes)),
        "patients": len(np.unique(data.groups)),
        "synthetic": data.synthetic,
        "left_out": len(data.left_out),
        "copies_across_patients": copies,
    }
