"""Answers pip's question for a package's metadata, so that the package's setup.py is never run.

Only `weights._download` puts this folder on a path, for the one pip process that fetches weights.
"""

import sys
from pathlib import Path

__legacy__ = sys.modules[__name__]  # the name under which pip asks for setup.py-style packages


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    """Write the name and version that the source folder itself states in PKG-INFO."""
    folder = Path(metadata_directory, "weights.dist-info")
    folder.mkdir()
    fields = [line for line in Path("PKG-INFO").read_text(encoding="utf-8").splitlines() if line]
    kept = [line for line in fields if line.startswith(("Metadata-Version:", "Name:", "Version:"))]
    Path(folder, "METADATA").write_text("\n".join(kept) + "\n", encoding="utf-8")
    return folder.name
