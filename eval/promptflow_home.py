"""A private, silent home for prompt flow, made before its first import.

Left alone, prompt flow writes under the user's home, sends telemetry, starts a tracing service on a fixed port and asks
the package index for a newer version at each start.
"""

import atexit
import json
import os
import shutil
import sys
import tempfile
import unicodedata
import uuid
from datetime import datetime
from pathlib import Path
from typing import Any

from eval.atomic import write_atomic
from eval.errors import EvalError

HOME = "PF_HOME_DIRECTORY"
# nltk's "perluniprops" lists, which promptflow-evals wants at import: each name with its first letter in Unicode.
CATEGORIES = {"Number": "N", "Punctuation": "P", "Symbol": "S"}
_ours: list[str] = []  # homes made here, at most one


def prepare() -> Path:
    """Make the home and return it: `$PF_HOME_DIRECTORY` if that is set, else a folder that goes with the process.

    Raises EvalError when promptflow was imported before and has settled on another home: it would run with telemetry.
    """
    if not os.environ.get(HOME):
        made = tempfile.mkdtemp(prefix="promptflow-")
        _ours.append(made)
        atexit.register(discard)
        os.environ[HOME] = made
    home = Path(os.environ[HOME]).resolve()
    imported = sys.modules.get("promptflow._sdk._constants")
    if imported is not None and home != imported.HOME_PROMPT_FLOW_DIR:
        raise EvalError(
            f"promptflow was imported before its home was chosen and uses {imported.HOME_PROMPT_FLOW_DIR}; "
            f"set {HOME} before the first import."
        )
    _settle(home / "pf.yaml")
    # A version check that was done just now is not done again; there is no setting that turns it off.
    now = datetime.now().strftime("%Y-%m-%d %H:%M:%S.%f")
    checked = {"last_check_time": now, "last_hint_time": now, "latest_version": "0", "current_version": "0"}
    write_atomic(home / "pf_version_check.json", json.dumps(checked))
    os.environ.setdefault("PF_LOGGING_LEVEL", "ERROR")
    return home


def _settle(settings: Path) -> None:
    """Turn off what is on by default, unless the owner of the home has said otherwise."""
    import yaml

    said: dict[str, Any] = (yaml.safe_load(settings.read_text(encoding="utf-8")) if settings.exists() else None) or {}
    wanted = {
        **said,
        "telemetry": {"enabled": False, **(said.get("telemetry") or {})},
        "trace": {"destination": "none", **(said.get("trace") or {})},
        # Else promptflow writes one itself, emptying the file first: who reads it just then has telemetry on.
        "cli": {"installation_id": str(uuid.UUID(int=0)), **(said.get("cli") or {})},
    }
    if wanted != said:
        write_atomic(settings, yaml.safe_dump(wanted))


def discard() -> None:
    """Remove the home if `prepare` made it; for the end of the process, as promptflow cannot do without it before."""
    while _ours:
        shutil.rmtree(_ours.pop(), ignore_errors=True)


def stand_in_for_nltk_data(home: Path) -> None:
    """Give nltk the word lists that promptflow-evals would download, made from Unicode's own categories.

    They only serve to let it be imported: never report a BLEU, GLEU or METEOR computed with them.
    """
    import nltk

    folder = home / "nltk_data"
    files = {category: folder / "misc" / "perluniprops" / f"{name}.txt" for name, category in CATEGORIES.items()}
    if not all(file.exists() for file in files.values()):
        letters: dict[str, list[str]] = {category: [] for category in files}
        for letter in map(chr, range(sys.maxunicode + 1)):
            if (category := unicodedata.category(letter)[0]) in letters:
                letters[category].append(letter)
        for category, file in files.items():
            write_atomic(file, "".join(letters[category]))
    if str(folder) not in nltk.data.path:
        nltk.data.path.insert(0, str(folder))
