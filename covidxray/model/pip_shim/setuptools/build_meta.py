"""Answers pip's question for a package's metadata, so that the package's setup.py is never run.

Only `weights._download` puts this folder on a path, for the one pip process that fetches weights.
"""

import sys
from email.parser import HeaderParser
from pathlib import Path

__legacy__ = sys.modules[__name__]  # the name under which pip asks for setup.py-style packages


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    """Write the name and version that the source folder itself states in PKG-INFO."""
    stated = HeaderParser().parsestr(Path("PKG-INFO").read_text(encoding="utf-8"))
    name, version = stated["Name"].replace("-", "_"), stated["Version"]
    folder = Path(metadata_directory, f"{name}-{version}.dist-info")
    folder.mkdir()
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    Path(folder, "METADATA").write_text(metadata, encoding="utf-8")
    return folder.name
