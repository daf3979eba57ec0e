"""Stands for GitHub's command line in workflow tests: notes how it was called and prints what the test gave it."""

import json
import os
import sys
from pathlib import Path

arguments = sys.argv[1:]
call = list(arguments)
for option in ("--body-file", "-F", "--input"):
    if option in arguments[:-1] and arguments[arguments.index(option) + 1] == "-":
        call.append(sys.stdin.read())
with Path(os.environ["STUB_GH_LOG"]).open("a", encoding="utf-8") as log:
    log.write(json.dumps(call) + "\n")
answers = json.loads(os.environ["STUB_GH_ANSWERS"])
line = " ".join(arguments)
for beginning in sorted(answers, key=len, reverse=True):
    if line.startswith(beginning):
        print(answers[beginning])
        break
