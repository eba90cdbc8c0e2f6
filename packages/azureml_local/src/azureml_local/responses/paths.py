"""URL patterns, and the spelling of their fixed words."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from azureml_local.models.resource_ids import PROVIDER

SUBSCRIPTION = "/subscriptions/{subscription}"
WORKSPACE = f"{SUBSCRIPTION}/resourceGroups/{{resource_group}}/providers/{PROVIDER}/workspaces/{{workspace}}"
ENDPOINT = f"{WORKSPACE}/onlineEndpoints/{{endpoint}}"
DEPLOYMENT = f"{ENDPOINT}/deployments/{{deployment}}"
LOCATION = f"{SUBSCRIPTION}/providers/{PROVIDER}/locations/{{location}}"

# Azure takes the fixed words of a path in any case, and some of its own clients send "resourcegroups".
WORDS = {
    word.lower(): word
    for word in (
        "subscriptions",
        "resourceGroups",
        "providers",
        PROVIDER,
        "Microsoft.Insights",
        "metrics",
        "metricDefinitions",
        "workspaces",
        "onlineEndpoints",
        "deployments",
        "codes",
        "environments",
        "models",
        "versions",
        "datastores",
        "computes",
        "jobs",
        "cancel",
        "data",
        "components",
        "locations",
        "vmSizes",
        "mfeOperationsStatus",
        "mfeOperationResults",
        "startPendingUpload",
        "listSecrets",
        "listKeys",
        "regenerateKeys",
        "token",
        "getLogs",
    )
}


def canonical(path: str) -> str:
    """Return the path with its fixed words as the routes spell them; names, in between, stay as they are."""
    segments = path.split("/")
    # Words and names alternate: /word/name/word/name; what follows "providers" is a word in a name's place.
    for index, segment in enumerate(segments):
        is_word = index % 2 == 1 or segments[index - 1] == "providers"
        if is_word:
            segments[index] = WORDS.get(segment.lower(), segment)
    return "/".join(segments)


class CanonicalPath:
    """ASGI middleware that spells the fixed words of every path in one way."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its canonical path."""
        if scope["type"] == "http" and scope["path"].lower().startswith("/subscriptions/"):
            # Some clients join a URL that ends with a slash and an id that begins with one.
            scope = {**scope, "path": canonical(scope["path"])}
        await self._app(scope, receive, send)
