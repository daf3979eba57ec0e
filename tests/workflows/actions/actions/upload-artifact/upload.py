"""What the real action does to paths and names: hidden files stay out, one folder is the root, a name is taken once."""

import glob
import json
import os
import shutil
import sys
from pathlib import Path

NAME, OVERWRITE, HIDDEN = os.environ["NAME"], os.environ["OVERWRITE"] == "true", os.environ["HIDDEN"] == "true"
RUN = os.environ["GITHUB_RUN_ID"]
FOLDER = Path(os.environ["STUB_ARTIFACTS"]) / RUN
LINES = [line.strip() for line in os.environ["PATHS"].splitlines() if line.strip()]


def hits(pattern: str) -> list[Path]:
    found = glob.glob(pattern, recursive=True, include_hidden=True)  # noqa: PTH207 (Path.glob takes no absolute one)
    return [Path(each).resolve() for each in found]


def beginning(pattern: str) -> Path:
    """The folder before the first wildcard; of a file's path, the file's folder."""
    parts = Path(pattern).parts
    wild = next((at for at, part in enumerate(parts) if "*" in part), len(parts))
    fixed = Path(*parts[:wild]).resolve()
    return fixed if fixed.is_dir() else fixed.parent


def chosen(pattern: str, excluded: set[Path]) -> list[Path]:
    start = beginning(pattern)
    below = [file for hit in hits(pattern) for file in ([hit] if hit.is_file() else hit.rglob("*")) if file.is_file()]
    shown = [f for f in below if HIDDEN or not any(part.startswith(".") for part in f.relative_to(start).parts)]
    return [file for file in shown if not {file, *file.parents} & excluded]


if not NAME or any(sign in NAME for sign in '":<>|*?\r\n\\/'):
    sys.exit(f"::error::The artifact name is not valid: {NAME!r}")
if (FOLDER / NAME).exists() and not OVERWRITE:
    sys.exit("::error::Failed to CreateArtifact: (409) Conflict: an artifact with this name already exists")
without = {hit for line in LINES if line[0] == "!" for hit in hits(line[1:])}
by_line = {line: chosen(line, without) for line in LINES if line[0] != "!"}
files = [file for found in by_line.values() for file in found]
if not files:
    said = f"No files were found with the provided path: {' '.join(LINES)}. No artifacts will be uploaded."
    if os.environ["MISSING"] == "error":
        sys.exit(f"::error::{said}")
    print(f"::warning::{said}")
    sys.exit(0)

root = Path(os.path.commonpath([beginning(line) for line, found in by_line.items() if found]))
shutil.rmtree(FOLDER / NAME, ignore_errors=True)
for file in dict.fromkeys(files):
    target = FOLDER / NAME / file.relative_to(root)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(file, target)
number = sum(1 for _ in FOLDER.iterdir())
about = {"run": RUN, "name": NAME, "job": os.environ["GITHUB_JOB"], "retention_days": os.environ["RETENTION"]}
with (FOLDER.parent / "about.jsonl").open("a", encoding="utf-8") as log:
    log.write(json.dumps(about) + "\n")
url = f"https://github.com/{os.environ['GITHUB_REPOSITORY']}/actions/runs/{RUN}/artifacts/{number}"
with Path(os.environ["GITHUB_OUTPUT"]).open("a", encoding="utf-8") as output:
    output.write(f"artifact-id={number}\nartifact-url={url}\n")
print(f"uploaded {len(files)} file(s) as {NAME}")
