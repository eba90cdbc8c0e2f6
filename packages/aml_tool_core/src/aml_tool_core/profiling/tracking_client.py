"""`python -m aml_tool_core.profiling.tracking_client METRICS.json`: log metrics to the run that the environment names.

The last line on stderr says what went wrong, where the exit code is not 0.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path

# azureml://REGION.api.azureml.ms/mlflow/v1.0/subscriptions/...: the workspace's MLflow server. Its REST API lies at the
# same place under https, version 2.0 for today's clients, and takes the token that the job has (MLFLOW_TRACKING_TOKEN).
# That is all that the plug-in for this scheme (azureml-mlflow) adds to logging metrics, for 7 MB and old pins.
_AZUREML = re.compile(r"^azureml://(?P<host>[^/]+)/mlflow/v[0-9.]+/(?P<workspace>[^?]+)")


def https_uri(tracking_uri: str) -> str:
    """Return a tracking URI that MLflow knows without plug-ins."""
    found = _AZUREML.match(tracking_uri)
    return tracking_uri if found is None else f"https://{found['host']}/mlflow/v2.0/{found['workspace'].rstrip('/')}"


def main() -> None:
    """Log the metrics of the named file."""
    metrics = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    try:
        from mlflow.entities import Metric
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient
    except ImportError as error:
        sys.exit(f"MLflow's client is not installed ({error}); pip install 'aml-tool-core[mlflow]'")
    now_ms = int(time.time() * 1000)
    try:
        client = MlflowClient(tracking_uri=https_uri(os.environ["MLFLOW_TRACKING_URI"]))
        client.log_batch(
            os.environ["MLFLOW_RUN_ID"], metrics=[Metric(name, value, now_ms, 0) for name, value in metrics.items()]
        )
    except (MlflowException, OSError) as error:
        sys.exit(f"MLflow: {' '.join(str(error).split())[:500]}")


if __name__ == "__main__":
    main()
