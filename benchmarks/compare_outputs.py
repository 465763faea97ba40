"""Compare what the scripts of two checkouts of this project print and write.

    python benchmarks/compare_outputs.py record --checkout before --data DATA --output one
    python benchmarks/compare_outputs.py record --checkout after --data DATA --output two
    python benchmarks/compare_outputs.py compare one two

The command lines are in compare_outputs.txt. DATA holds covid-chestxray-dataset, metadata-history,
tutorial-normal, chest_xray, nih-normal, dicom and faults. Nothing of a checkout is imported, so its
modules may have any names. A recording that was interrupted continues when it is started again. Any
training must have put the ImageNet weights into the cache folder before the first recording.

These differences are failures: an exit code, a file, a key, a pixel, a printed number, or another
number by more than 1e-6 of its value. Other words around the same numbers are only listed.
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections import Counter
from fnmatch import fnmatch
from pathlib import Path

from output_values import Difference, compare_values, read_output

CODE = "exit-code.txt"  # written last: a run whose folder has it is complete
PARTS = {"inputs/data": "", "inputs/mixture/normal": "nih-normal", "sets/nih/normal": "nih-normal"}
PARTS |= {"sets/tutorial/normal": "tutorial-normal"}  # links to parts of the data
LINKS = {"sets/controls-as-normal/covid": "../controls/covid"}
LINKS |= {"sets/controls-as-normal/normal": "../controls/controls"}
DRAWN = ("mixture", "one-class", "empty-class")
LINKS |= {f"inputs/{name}/covid": "../../sets/demo/covid" for name in DRAWN}
PAIR = "cache-cold and cache-warm"
SAME, REWORDED, FAILED = "same", "words differ", "DIFFERENT"
SHOWN = 8  # differences printed for each output


def prepare(output: Path, data: Path) -> None:
    """Make the inputs that no builder makes: links, empty folders and broken files."""
    for name in ("inputs/empty", "inputs/empty-class/normal", "inputs/foreign/covid"):
        (output / name).mkdir(parents=True, exist_ok=True)
    for name, target in ({name: data / part for name, part in PARTS.items()} | LINKS).items():
        (output / name).parent.mkdir(parents=True, exist_ok=True)
        if not (output / name).is_symlink():
            (output / name).symlink_to(target)
    for name in ("text.keras", "foreign/covid/note.txt"):
        (output / "inputs" / name).write_text("This is a text.\n")
    whole = (data / "nih-normal" / "00001304_001.png").read_bytes()
    (output / "inputs" / "damaged.png").write_bytes(whole[: len(whole) // 2])


def read_runs(only: list[str], has_ray: bool) -> list[tuple[str, str]]:
    """The names that match one of `only`, each with its command line, in the file's order."""
    lines = Path(__file__).with_suffix(".txt").read_text().splitlines()
    runs = [tuple(line.split(": ", 1)) for line in lines if line[:1] not in ("", "#")]
    return [
        (name, command)
        for name, command in runs
        if any(fnmatch(name, pattern) for pattern in only)
        if has_ray or not name.startswith("ray-")
    ]


def record(checkout: Path, data: Path, output: Path, python: str, only: list[str]) -> bool:
    """Run the command lines that are not recorded yet; whether all exit codes were as expected."""
    prepare(output, data)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"COLUMNS": "100", "PYTHONDONTWRITEBYTECODE": "1"}
    has_ray = not subprocess.run([python, "-c", "import ray"], capture_output=True).returncode
    good = True
    for name, command in read_runs(only, has_ray):
        folder, began = output / name, time.perf_counter()
        if (folder / CODE).exists():
            continue
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        script, *arguments = shlex.split(command)
        words = [python, str(checkout / script), *arguments]
        done = subprocess.run(words, cwd=folder, env=environment, capture_output=True)
        for stream, content in (("stdout", done.stdout), ("stderr", done.stderr)):
            text = content.decode(errors="backslashreplace").replace(str(output), "OUTPUT")
            (folder / f"{stream}.txt").write_text(text.replace(str(checkout), "CHECKOUT"))
        (folder / CODE).write_text(str(done.returncode))
        expected = int(name.split("-")[1]) if name.startswith("exit-") else 0
        note = "" if done.returncode == expected else f", but {expected} was expected"
        good &= not note
        seconds = time.perf_counter() - began
        print(f"{seconds:6.1f} s  {name}: exit code {done.returncode}{note}", flush=True)
    return good


def list_outputs(folder: Path) -> dict[str, Path]:
    """Each output of a run by its name; not a cache's entries, whose names may change."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {str(p.relative_to(folder)): p for p in files if p.suffix != ".safetensors"}


def may_differ(title: str, name: str) -> bool:
    """Whether no difference of an output is a failure: a help text, or the messages of a run that
    used a cache, which say so."""
    return (title.startswith("help-") and name != CODE) or (
        title.startswith(PAIR) and name == "stderr.txt"
    )


def compare_runs(before: Path, after: Path, title: str) -> Counter[str]:
    """Print a line for each output of a run, and what differs; count the lines by verdict.

    Files of one type in one subfolder share a line.
    """
    if not (before.is_dir() and after.is_dir()):
        print(f"{title}: {FAILED}, only {'before' if before.is_dir() else 'after'}")
        return Counter([FAILED])
    old, new = list_outputs(before), list_outputs(after)
    lines: dict[str, list[Difference]] = {}
    for name in sorted({*old, *new}):
        path = Path(name)
        line = name if len(path.parts) == 1 else f"{path.parent}/*{path.suffix}"
        found = lines.setdefault(line, [])
        if name in old and name in new:
            if old[name].read_bytes() != new[name].read_bytes():
                found += compare_values(read_output(old[name]), read_output(new[name]), name)
        else:
            found.append((True, f"{name}: only {'before' if name in old else 'after'}"))
    verdicts = []
    for line, found in lines.items():
        failed = any(failure for failure, _ in found) and not may_differ(title, line)
        verdicts.append(FAILED if failed else REWORDED if found else SAME)
        print(f"{title}, {line}: {verdicts[-1]}")
        # The failures come first.
        for _, text in sorted(found, key=lambda one: not one[0])[:SHOWN]:
            print(f"    {text}")
        if len(found) > SHOWN:
            print(f"    and {len(found) - SHOWN} more")
    return Counter(verdicts)


def compare(before: Path, after: Path, only: list[str]) -> bool:
    """Compare the runs of two recordings, and in each recording the run that filled a cache with
    the run that used it; whether nothing failed."""
    names = {path.name for folder in (before, after) for path in folder.iterdir()} - {"inputs"}
    runs = [(name, before / name, after / name) for name in sorted(names)]
    for title, folder in (("before", before), ("after", after)):
        pair = folder / "cache-cold", folder / "cache-warm"
        runs.append((f"{PAIR} {title}", *pair))
    counts = Counter()
    for title, old, new in runs:
        if any(fnmatch(title, pattern) for pattern in only):
            counts += compare_runs(old, new, title)
    print(", ".join(f"{counts[verdict]} {verdict}" for verdict in (SAME, REWORDED, FAILED)))
    return not counts[FAILED]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record", help="run the scripts and keep their outputs")
    for name in ("--checkout", "--data", "--output"):
        recording.add_argument(name, required=True, type=Path, metavar="DIR")
    recording.add_argument("--python", default=sys.executable, help="interpreter of the scripts")
    comparing = commands.add_parser("compare", help="compare two recordings")
    for name in ("before", "after"):
        comparing.add_argument(name, type=Path)
    for command in (recording, comparing):
        command.add_argument("--only", nargs="+", default=["*"], help="patterns of runs' names")
    args = parser.parse_args()
    if args.command == "compare":
        good = compare(args.before, args.after, args.only)
    else:
        folders = (path.resolve() for path in (args.checkout, args.data, args.output))
        good = record(*folders, args.python, args.only)
    sys.exit(not good)


if __name__ == "__main__":
    main()
