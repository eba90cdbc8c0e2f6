"""Bearer tokens: signed and verified here, and verified again by the gateway with the same key."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass

import jwt

from azureml_local.exceptions import UnauthorizedError

# HS256 is what HAProxy's jwt_verify checks with a shared key, so the gateway needs no call back into the plane.
ALGORITHM = "HS256"
TOKEN_LIFETIME_SEC = 3600
# The audience that the SDK asks for when an endpoint's auth mode is aad_token.
SCORING_AUDIENCE = "https://ml.azure.com"


@dataclass(frozen=True)
class Token:
    """A bearer token and when it ends (Unix time)."""

    value: str
    expires_on: int


def issue(signing_key: str, audience: str, lifetime_sec: int = TOKEN_LIFETIME_SEC) -> Token:
    """Sign a token for one audience."""
    now = int(time.time())
    claims = {"aud": audience.rstrip("/"), "iss": "azureml_local", "iat": now, "nbf": now, "exp": now + lifetime_sec}
    return Token(jwt.encode(claims, signing_key, algorithm=ALGORITHM), now + lifetime_sec)


def verify(signing_key: str, authorization: str | None, audience: str) -> None:
    """Check an Authorization header's value; raises UnauthorizedError with the reason."""
    scheme, _, value = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not value:
        raise UnauthorizedError("Authentication failed. The 'Authorization' header is missing.", "AuthenticationFailed")
    try:
        jwt.decode(value.strip(), signing_key, algorithms=[ALGORITHM], audience=audience.rstrip("/"))
    except jwt.ExpiredSignatureError as error:
        raise UnauthorizedError("The access token has expired.", "ExpiredAuthenticationToken") from error
    except jwt.InvalidAudienceError as error:
        message = f"The access token is not for {audience}."
        raise UnauthorizedError(message, "InvalidAuthenticationTokenAudience") from error
    except jwt.InvalidTokenError as error:
        raise UnauthorizedError("The access token is invalid.") from error


def scoring_audience(endpoint_id: str) -> str:
    """Return the audience of the tokens that an endpoint itself hands out (auth mode aml_token)."""
    return f"endpoint-{hashlib.sha256(endpoint_id.lower().encode()).hexdigest()[:32]}"
