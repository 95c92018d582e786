"""The virtual environments of the references: one for every `references/requirements-NAME.txt`, made as DIR/env-NAME.

python benchmarks/environments.py --environments DIR --create [--only tensorflow recbole]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

REFERENCES = Path(__file__).resolve().parent / "references"
# References that need nothing but what towerrec needs run in its own environment.
OWN = "own"


def names() -> list[str]:
    """Environments that have a file of requirements."""
    return sorted(path.stem.removeprefix("requirements-") for path in REFERENCES.glob("requirements-*.txt"))


def python(name: str, directory: Path | None) -> Path | None:
    """The interpreter of an environment; None where it was not made.

    Raises:
        ValueError: There is no such environment.
    """
    if name == OWN:
        return Path(sys.executable)
    if name not in names():
        raise ValueError(f"no environment is called {name!r}: choose one of {', '.join([OWN, *names()])}")
    found = None if directory is None else directory / f"env-{name}" / "bin" / "python"
    return found if found is not None and found.is_file() else None


def why_not(name: str, directory: Path | None) -> str:
    """What a report says of a reference whose environment is absent."""
    where = "--environments was not given" if directory is None else f"{directory} holds no env-{name}"
    return f"{where}; python benchmarks/environments.py --environments DIR --create --only {name}"


def create(name: str, directory: Path) -> None:
    """Make an environment and install what its file pins; one that is there is brought up to date."""
    place = directory / f"env-{name}"
    if not (place / "bin" / "python").is_file():
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
    requirements = REFERENCES / f"requirements-{name}.txt"
    subprocess.run([str(place / "bin" / "python"), "-m", "pip", "install", "-q", "-r", str(requirements)], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environments", type=Path, required=True, metavar="DIR")
    parser.add_argument("--create", action="store_true")
    parser.add_argument("--only", nargs="+", choices=names(), default=names())
    asked = parser.parse_args()
    for name in asked.only:
        if asked.create:
            create(name, asked.environments)
        found = python(name, asked.environments)
        print(f"{name}: {found if found else why_not(name, asked.environments)}")


if __name__ == "__main__":
    main()
