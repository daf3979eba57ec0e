"""Before anything else: promptflow gets a private home, or its first import would set up telemetry and a service."""

import os

from eval.promptflow_home import HOME, prepare

os.environ.pop(HOME, None)  # one for each process: a worker of pytest-xdist would share the first one's
prepare()
