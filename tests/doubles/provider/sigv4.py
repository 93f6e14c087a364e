"""AWS's Signature Version 4, computed anew from a request as it came, by AWS's own description."""

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

ALGORITHM = "AWS4-HMAC-SHA256"
MAX_AGE = timedelta(minutes=5)


def objection(
    method: str,
    raw_path: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    access_key: str,
    secret_key: str,
    scope: tuple[str, str],
) -> str:
    """What is wrong with the signature, as AWS says it; else nothing. `scope` is region and service."""
    scheme, _, rest = headers.get("authorization", "").partition(" ")
    if scheme != ALGORITHM:
        return "Missing Authentication Token"
    fields = dict(part.strip().split("=", 1) for part in rest.split(","))
    time = headers.get("x-amz-date", "")
    signed_at = datetime.strptime(time, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    if abs(datetime.now(UTC) - signed_at) > MAX_AGE:
        return f"Signature expired: {time}"
    region, service = scope
    credential_scope = f"{time[:8]}/{region}/{service}/aws4_request"
    if fields["Credential"] != f"{access_key}/{credential_scope}":
        return "The security token included in the request is invalid."
    names = fields["SignedHeaders"].split(";")
    if "host" not in names or "x-amz-date" not in names:
        return "'Host' and 'X-Amz-Date' must be signed."
    canonical = "\n".join(
        (
            method,
            quote(raw_path, safe="/-_.~"),
            "",
            *(f"{name}:{' '.join(headers[name].split())}" for name in names),
            "",
            fields["SignedHeaders"],
            hashlib.sha256(body).hexdigest(),
        )
    )
    text = "\n".join((ALGORITHM, time, credential_scope, hashlib.sha256(canonical.encode()).hexdigest()))
    key = f"AWS4{secret_key}".encode()
    for part in (time[:8], region, service, "aws4_request", text):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    if not hmac.compare_digest(key.hex(), fields["Signature"]):
        return "The request signature we calculated does not match the signature you provided."
    return ""
