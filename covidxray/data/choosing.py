"""Choose the images of a class folder among those that a source lists."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from covidxray.data.class_folder import Selection
from covidxray.data.images import read_image
from covidxray.data.manifest import ManifestRow
from covidxray.data.prefetch import attempt
from covidxray.errors import InputError

MISSING, REPEATED, DAMAGED = "missing", "repeated", "damaged"
ANOTHER, NOT_DRAWN = "another image of the patient", "not drawn"

ListedImage = tuple[ManifestRow, Path | str]  # its row, and its file or why it cannot be used


def choose(
    images: Iterable[ListedImage],
    one_per_patient: bool,
    limit: int | None,
    seed: int,
    progress: Callable[[], object] = lambda: None,
) -> Selection:
    """Choose the images of a class folder, in the order of `images`.

    If `one_per_patient`, only the first usable image of each patient is taken. `limit` images are
    drawn at random with `seed`; all of them if it is None or more than there are. An image is
    decoded when it is drawn, and `progress` is called then; a damaged one is replaced by the next
    of its patient or else of the draw. The reason of an excluded image is that of `images`,
    `REPEATED` (an earlier row has its file name), `DAMAGED`, `ANOTHER` or `NOT_DRAWN`.
    """
    rows: list[ManifestRow] = []
    reasons: dict[int, str] = {}  # by number of the row
    candidates: dict[str, dict[int, Path]] = {}  # by patient, or else by file name
    names: set[str] = set()
    taken: dict[int, Path] = {}
    for number, (row, file) in enumerate(images):
        rows.append(row)
        name = row.filename.lower()
        is_named = not isinstance(file, str) or file == MISSING
        if is_named and name in names:
            reasons[number] = REPEATED
        elif isinstance(file, str):
            reasons[number] = file
        else:
            patient = (row.patient_id or row.filename) if one_per_patient else name
            candidates.setdefault(patient, {})[number] = file
        if is_named:
            names.add(name)
    groups = list(candidates.values())
    for group in (groups[i] for i in np.random.default_rng(seed).permutation(len(groups))):
        others = iter(group.items())
        if len(taken) == limit:
            reasons[next(others)[0]] = NOT_DRAWN
        else:
            for number, file in others:
                progress()
                if not isinstance(attempt(read_image)(file), InputError):
                    taken[number] = file
                    break
                reasons[number] = DAMAGED
        reasons |= {number: ANOTHER for number, _ in others}
    return Selection(
        [(rows[number], file) for number, file in sorted(taken.items())],
        [(rows[number].filename, reason) for number, reason in sorted(reasons.items())],
    )
