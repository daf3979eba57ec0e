"""MLflow's tracking server, started as `mlflow server` would end up starting it (children.py says why)."""

from __future__ import annotations

import gc
import sys


def main(port: int) -> None:
    import uvicorn

    gc.disable()  # its packages stay: looking through them for rubbish was a third of the start
    from mlflow.server.fastapi_app import app

    gc.freeze()
    gc.enable()
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main(int(sys.argv[1]))
