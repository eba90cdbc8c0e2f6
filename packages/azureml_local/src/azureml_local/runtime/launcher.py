"""Start azureml-inference-server-http on loopback only; runs inside a deployment's own environment.

The server's command line has no flag for the address and binds 0.0.0.0. Its `run` reads the address from the module's
constant, so the constant is what is changed; all else is the package as it was installed.
"""

import importlib
import os
import sys


def main() -> None:
    from azureml_inference_server_http import amlserver

    if not hasattr(amlserver, "DEFAULT_HOST"):
        sys.exit(
            "this version of azureml-inference-server-http cannot be bound to loopback: amlserver.DEFAULT_HOST is gone"
        )
    amlserver.DEFAULT_HOST = "127.0.0.1"
    # Newer gunicorns open a control socket in the home folder, one that all servers would share.
    settings = importlib.import_module("gunicorn.config").KNOWN_SETTINGS
    flags = {flag for setting in settings for flag in (setting.cli or ())}
    if "--no-control-socket" in flags:
        os.environ["GUNICORN_CMD_ARGS"] = f"{os.environ.get('GUNICORN_CMD_ARGS', '')} --no-control-socket".strip()
    amlserver.run()


if __name__ == "__main__":
    main()
