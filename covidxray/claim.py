"""CLAIM 2024: which of its items a run can answer, and in what words.

Checklist for Artificial Intelligence in Medical Imaging, 2024 update (Tejani et al., Radiology:
Artificial Intelligence 2024, doi 10.1148/ryai.240300). Topics are paraphrased, numbers its own.
"""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from covidxray.report import Content

TOPICS = dict(
    enumerate(
        (
            "Title names the AI technology",
            "Structured summary",
            "Background and intended use",
            "Aims and hypotheses",
            "Prospective or retrospective",
            "Goal of the study",
            "Data sources",
            "Inclusion and exclusion criteria",
            "Preprocessing",
            "Selection of data subsets",
            "De-identification",
            "Missing data",
            "Image acquisition",
            "Definition of the reference standard",
            "Rationale for the reference standard",
            "Who annotated, and their qualifications",
            "How the test set was annotated",
            "Variability between and within annotators",
            "Assignment to partitions",
            "Level at which partitions are disjoint",
            "Intended size of the test set",
            "Description of the model",
            "Software and versions",
            "Initial parameters",
            "Training",
            "Selection of the final model",
            "Ensembling",
            "Performance metrics",
            "Uncertainty and significance",
            "Robustness and sensitivity analysis",
            "Explainability",
            "Evaluation on internal data",
            "Testing on external data",
            "Trial registration",
            "Numbers included and excluded",
            "Demographic and clinical characteristics",
            "Performance on each partition",
            "Accuracy estimates with their precision",
            "Failure analysis",
            "Limitations",
            "Implications for practice",
            "Full protocol",
            "Availability of software, model and data",
            "Funding",
        ),
        start=1,
    )
)


def answers(content: "Content") -> dict[int, str]:
    """What this run says on an item, by its number; the other items only an author can fill in."""
    data = content.data
    known = {name: sum(bool(getattr(row, name)) for row in data.rows) for name in ("age", "sex")}
    patients = len(np.unique(data.groups))
    size = f"{len(data)} images of {patients} patients"
    said = {
        7: f"{', '.join(sorted({row.source or 'not stated' for row in data.rows}))}; data card.",
        9: "Each image is decoded to 8-bit RGB and squeezed to 224 x 224 pixels.",
        12: f"Age is known of {known['age']} and sex of {known['sex']} of {len(data)} images. "
        "Nothing is imputed.",
        35: f"{size} included, {sum(n for *_, n in content.exclusions)} images known to be "
        "left out; data card.",
        36: "By class, in the data card.",
        40: "In the last section.",
        41: "For learning and research only; not for patients.",
    }
    if content.exclusions:
        said[10] = "Numbers and reasons of what was left out are in the data card."
    if content.headline:
        said[28] = f"{', '.join(content.headline)}."
        said[29] = "95 % intervals beside every number; those of means count patients."
        said[38] = "In the first section, each with its 95 % interval."
    if content.audit:
        said[30] = "Simple classifiers on clues other than anatomy, beside the model; audit."
    if content.cases:
        said[31] = "Grad-CAM, with the share of heat in the lungs."
    if content.model:
        said |= dict.fromkeys((22, 23, 24, 25), "In the model card.")
    names = " and ".join(scored.name for scored in content.scored)
    if content.history:
        said[19] = "At random from a seed, stratified by class."
        said[20] = "Patients; copies of a picture count as one patient."
        said[32] = said[37] = f"On {names}."
        said[33] = "None in this run."
    elif content.scored:
        said[19] = "All images of this data set are tested; none trained the model in this run."
        said[33] = f"On {names}; whether it is external to the training is for the author to say."
    if content.evaluation:
        tested = int(content.evaluation.confusion.sum())
        said[21] = f"{tested} images tested; no size was calculated beforehand."
        said[39] = "Confusion matrix" + (" and gallery." if content.cases else ".")
    return said
