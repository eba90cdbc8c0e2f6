"""Start azureml-inference-server-http on loopback only; runs inside a deployment's own environment.

The server's command line has no flag for the address and binds 0.0.0.0. Its `run` reads the address from the module's
constant, so the constant is what is changed; all else is the package as it was installed. A fault that was queued for
the container strikes here, where the server calls the script's init().
"""

import importlib
import os
import sys
import time

FAULT_VARIABLE = "AZUREML_LOCAL_FAULT"
FOR_EVER_SEC = 1e8


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
    fault = os.environ.pop(FAULT_VARIABLE, None)
    if fault is not None:
        strike(*fault.split(":"))
    amlserver.run()


def strike(kind: str, delay_sec: str) -> None:
    """Let init() go wrong in the processes that the server is about to fork."""
    from azureml_inference_server_http.server.user_script import UserScript

    init = UserScript.invoke_init

    def struck(script: UserScript) -> None:
        print(f"the fault that was asked for: {kind} in init()", flush=True)
        if kind == "crash":
            raise RuntimeError("a fault that was asked for: init() raises")
        time.sleep(float(delay_sec) if kind == "slow" else FOR_EVER_SEC)
        init(script)

    UserScript.invoke_init = struck


if __name__ == "__main__":
    main()
