"""The command `fault`: queue faults in the plane that runs, and read back the calls that were made."""

from __future__ import annotations

import argparse
import json
import ssl
import sys
from typing import TYPE_CHECKING, Any

from azureml_local.certificates import ensure_tls
from azureml_local.exceptions import CommandLineError, InvalidRequestError, PlaneError
from azureml_local.home import Home, load_secrets, load_settings
from azureml_local.models.faults import CONTAINERS, DROPS, OPERATIONS, known_faults

if TYPE_CHECKING:
    import httpx

FAULTS_PATH = "/azureml_local/faults"
CALLS_PATH = "/azureml_local/calls"
ALWAYS = "always"
TIMEOUT_SEC = 30.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give the command its own commands."""
    verbs = parser.add_subparsers(required=True, dest="verb", metavar="{add,list,clear,known,calls}")
    add = verbs.add_parser("add", help="queue a fault; a known one by its name, changed or completed by the flags")
    add.add_argument("name", nargs="?", help="a known fault; `fault known` lists them")
    add.add_argument("--method", help="of the calls that it strikes, e.g. PUT (default: any)")
    add.add_argument(
        "--path",
        help="of the calls that it strikes, by its end, e.g. 'onlineEndpoints/*/deployments/*'; "
        "* is any part of a segment, ** any segments (default: any)",
    )
    add.add_argument("--times", type=_times, help=f"how many calls it strikes, or {ALWAYS} (default: 1)")
    add.add_argument("--skip", type=int, help="how many matching calls go well first (default: 0)")
    add.add_argument("--delay-sec", type=float, help="take so long before anything else")
    add.add_argument("--status", type=int, help="answer with this status")
    add.add_argument("--code", help="of the error in the answer or of the operation")
    add.add_argument("--message", help="of the error in the answer or of the operation")
    add.add_argument("--retry-after-sec", type=float, help="with a status: say when to ask again")
    add.add_argument("--drop", choices=DROPS, help="drop the connection before the work, or after it")
    add.add_argument("--operation", choices=OPERATIONS, help="what becomes of the long-running operation")
    add.add_argument("--container", choices=CONTAINERS, help="what becomes of init() in the deployment's containers")
    verbs.add_parser("list", help="list the faults that were queued, and how often each has struck")
    clear = verbs.add_parser("clear", help="remove a fault, or all; operations that hang go on")
    clear.add_argument("id", nargs="?", help="the fault to remove (default: all)")
    verbs.add_parser("known", help="list the faults that have a name")
    calls = verbs.add_parser("calls", help="print the last calls, oldest first, a line of JSON each")
    calls.add_argument("--forget", action="store_true", help="forget them instead")
    for verb in verbs.choices.values():
        # As with the other commands, after the verb; what stands before it wins only where nothing stands here.
        verb.add_argument("--home", metavar="DIR", default=argparse.SUPPRESS, help="where all is kept")


def run(home: Home, arguments: argparse.Namespace) -> int:
    """Carry out one of its commands."""
    if arguments.verb == "known":
        width = max(map(len, known_faults()))
        for name, known in known_faults().items():
            print(f"{name:<{width}}  {known['what']}")
        return 0
    with _control(home) as client:
        if arguments.verb == "add":
            print(json.dumps(_asked(client, "POST", FAULTS_PATH, _wanted(arguments))))
        elif arguments.verb == "list":
            _print_all(_asked(client, "GET", FAULTS_PATH))
        elif arguments.verb == "clear":
            _asked(client, "DELETE", FAULTS_PATH if arguments.id is None else f"{FAULTS_PATH}/{arguments.id}")
        elif arguments.forget:
            _asked(client, "DELETE", CALLS_PATH)
        else:
            _print_all(_asked(client, "GET", CALLS_PATH))
    return 0


def _control(home: Home) -> httpx.Client:
    # Here, because all commands of the plane's import this module, and few need these.
    import httpx

    from azureml_local import tokens

    settings = load_settings(home)
    if settings is None:
        raise PlaneError(f"{home.root}: no control plane has been started there; run: azureml-local up")
    token = tokens.issue(load_secrets(home).signing_key, settings.arm_url).value
    context = ssl.create_default_context(cafile=str(ensure_tls(home.tls_dir).ca))
    headers = {"Authorization": f"Bearer {token}"}
    # trust_env would send loopback through the shell's proxy.
    return httpx.Client(
        base_url=settings.arm_url, verify=context, headers=headers, trust_env=False, timeout=TIMEOUT_SEC
    )


def _asked(client: httpx.Client, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    import httpx

    try:
        answer = client.request(method, path, json=body)
    except httpx.TransportError as error:
        raise PlaneError(f"{client.base_url}: the control plane does not answer ({error}); is it up?") from error
    if answer.is_error:
        kind = CommandLineError if answer.status_code == InvalidRequestError.status else PlaneError
        raise kind(f"{path}: {answer.json()['error']['message']}")
    return answer.json() if answer.content else None


def _wanted(arguments: argparse.Namespace) -> dict[str, Any]:
    own = ("home", "run", "verb", "id")
    given = {key: value for key, value in vars(arguments).items() if key not in own and value is not None}
    if given.get("times") == ALWAYS:
        given["times"] = None
    return given


def _times(text: str) -> int | str:
    return ALWAYS if text == ALWAYS else int(text)


def _print_all(document: dict[str, Any]) -> None:
    for entry in document["value"]:
        sys.stdout.write(json.dumps({key: value for key, value in entry.items() if value not in (None, "")}) + "\n")
