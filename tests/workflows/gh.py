"""Stands for GitHub's command line in workflow tests: notes how it was called and prints what the test gave it.

An answer "@FILE" waits for FILE and prints what is in it.
"""

import json
import os
import sys
import time
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
        answer = answers[beginning]
        if answer.startswith("@"):  # a person's: FILE.asked says that one is waited for, FILE is it
            file = Path(answer[1:])
            file.with_name(f"{file.name}.asked").touch()
            while not file.exists():
                time.sleep(0.05)
            answer = file.read_text(encoding="utf-8")
        print(answer)
        break
