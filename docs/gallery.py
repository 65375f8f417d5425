"""The pictures of gallery.md: runs the commands of that page and copies the pictures that it shows. `make gallery`."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

from PIL import Image

DOCS = Path(__file__).parent
RUNS = DOCS.parent / "build" / "gallery"


def main() -> None:
    page = (DOCS / "gallery.md").read_text()
    there = {folder.name for folder in RUNS.glob("*")}  # runs of before are not made again
    for command in re.findall(r"^python (.+)$", page, re.M):
        if re.search(r"build/gallery/(\w+)", command)[1] not in there:
            subprocess.run([sys.executable, *shlex.split(command)], cwd=DOCS.parent, check=True)
    for name, picture in re.findall(r"\(gallery/(\w+)/(\w+\.png)\)", page):
        image = Image.open(min(RUNS.glob(f"{name}/*/{picture}"))).convert("RGB")  # evaluation/ before pictures/
        image.thumbnail((1200, 1200))
        target = DOCS / "gallery" / name / picture
        target.parent.mkdir(parents=True, exist_ok=True)
        image.convert("P", palette=Image.Palette.ADAPTIVE).save(target, optimize=True)


if __name__ == "__main__":
    main()
