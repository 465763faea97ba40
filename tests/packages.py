"""A source package of weights, made on the spot, and read as the published one is."""

import hashlib
import io
import tarfile
from unittest.mock import patch

from covidxray.model import weights


def pack(path, member, content, **others):
    """Write a package that holds `content`; where it comes from, as the table of weights has it."""
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for name, bytes_ in {member: content, **others}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(bytes_)
            archive.addfile(entry, io.BytesIO(bytes_))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    stem = path.name.removesuffix(".tar.gz")
    requirement = stem.replace("_", "-").replace("-1.0", "==1.0")
    return weights.Source(requirement, path.name, digest, member, (1, 1, 1), (1, 1, 1))


def load_pickle(folder, content):
    """What the program makes of a package whose file of weights is `content`."""
    path = folder / "package.tar"
    with patch.object(weights, "TORCHVISION", pack(path, "vgg16.ckpt", content)):
        return weights.load_weights(str(path))
