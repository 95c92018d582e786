"""Where KuaiRec's files lie: any layout seen in the wild, the zip itself, or the official address."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from towerrec.data.sources.archive import safe_unzip
from towerrec.data.sources.download import download

# Zenodo record 18164998, «KuaiRec Dataset with Raw Features».
URL = "https://zenodo.org/records/18164998/files/KuaiRec.zip"
SIZE = 431_964_858
MD5 = "261550d472c48eff4990fb13c0e5bcf7"

MATRIX_FILES = {"big": "big_matrix.csv", "small": "small_matrix.csv"}
USER_FEATURES = "user_features.csv"
SOCIAL = "social_network.csv"
CATEGORIES = "item_categories.csv"
CAPTIONS = "kuairec_caption_category.csv"
DAILY = "item_daily_features.csv"
OPTIONAL = (USER_FEATURES, SOCIAL, CATEGORIES, CAPTIONS, DAILY)

# `KuaiRec 2.0/data` in the zip, `KuaiRec/data` in the README, `data` or the files alone in copies.
LAYOUTS = ("", "data", "*", "*/data", "*/*/data")


def find_folder(root: Path, needed: Sequence[str]) -> Path | None:
    """The folder under `root` that holds all the files named, or None.

    Hidden folders and the simulated logs (`demo-*`) are passed over.

    Raises:
        ValueError: If two folders of the same layout hold them.
    """
    for layout in LAYOUTS:
        places = [root] if layout == "" else sorted(root.glob(layout))
        places = [place for place in places if not _is_passed_over(place.relative_to(root))]
        found = [place for place in places if all((place / name).is_file() for name in needed)]
        if len(found) > 1:
            raise ValueError(
                f"{root} holds several copies of {needed[0]}: {', '.join(map(str, found))}; name one with data.root="
            )
        if found:
            return found[0]
    return None


def _is_passed_over(relative: Path) -> bool:
    return any(part.startswith((".", "demo-")) for part in relative.parts)


def find_zip(root: Path) -> Path | None:
    """The release as a zip: `root` itself, or a file `KuaiRec*.zip` in it."""
    if root.is_file():
        return root if root.suffix.lower() == ".zip" else None
    zips = sorted(path for path in root.glob("*.zip") if path.name.lower().startswith("kuairec"))
    return zips[0] if zips else None


def locate(root: Path, needed: Sequence[str]) -> Path | None:
    """The folder of the csv files under `root`, unpacking the zip where only that is there; None where nothing is.

    Raises:
        ValueError: If the zip is damaged or holds other files.
    """
    folder = find_folder(root, needed) if root.is_dir() else None
    archive = find_zip(root) if folder is None else None
    if archive is None:
        return folder
    unpacked = archive.with_suffix("")
    folder = find_folder(unpacked, needed) if unpacked.is_dir() else None
    if folder is None:
        folder = find_folder(safe_unzip(archive, unpacked), needed)
    if folder is None:
        raise ValueError(f"{archive} was unpacked to {unpacked}, but {', '.join(needed)} is not in it")
    return folder


def fetch(folder: Path, *, url: str, size: int, md5: str) -> Path:
    """Download the release into `folder`, once."""
    return download(url, folder / "KuaiRec.zip", size=size, md5=md5)


def what_is_there(root: Path) -> str:
    """A few names, for an error."""
    if not root.exists():
        return "does not exist"
    if root.is_file():
        return "is a file, but not a zip"
    names = sorted(path.name for path in root.iterdir())
    return f"holds {', '.join(names[:10])}{', ...' if len(names) > 10 else ''}" if names else "is empty"
