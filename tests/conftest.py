"""Before anything else: promptflow gets a private home, or its first import would set up telemetry and a service."""

from eval.promptflow_home import prepare

prepare()
