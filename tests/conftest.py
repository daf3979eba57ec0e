"""Before anything else: promptflow gets a private home, or its first import would set up telemetry and a service."""

import atexit
import gc
import os

from eval.promptflow_home import HOME, prepare

os.environ.pop(HOME, None)  # one for each process: a worker of pytest-xdist would share the first one's
prepare()
# As in scripts/__main__.py: what the packages make at import is not looked through for rubbish again and again.
gc.set_threshold(100_000, 50, 100)
atexit.register(gc.freeze)
