"""As the real action: a named artifact goes right into the path, several go into a folder each unless merged."""

import fnmatch
import os
import shutil
import sys
from pathlib import Path

name, where = os.environ["NAME"], Path(os.environ["WHERE"] or ".")
own, run = os.environ["GITHUB_RUN_ID"], os.environ["RUN"] or os.environ["GITHUB_RUN_ID"]
if run != own and not os.environ["TOKEN"]:
    sys.exit("::error::Artifacts of another run are only found with a github-token")
folder = Path(os.environ["STUB_ARTIFACTS"]) / run
there = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
if name and name not in there:
    sys.exit(f"::error::Unable to download artifact(s): Artifact not found for name: {name}")
chosen = [name] if name else [each for each in there if fnmatch.fnmatch(each, os.environ["PATTERN"] or "*")]
for each in chosen:
    flat = name or os.environ["MERGE"] == "true"
    shutil.copytree(folder / each, where if flat else where / each, dirs_exist_ok=True)
print(f"downloaded {len(chosen)} artifact(s)")
