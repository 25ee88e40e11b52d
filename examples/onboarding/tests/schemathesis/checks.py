"""Keys of their own for requests, and what a retry with them is answered."""

import uuid

import requests
import schemathesis

KEYS = ("idempotency-key", "x-idempotency-key")


@schemathesis.hook
def before_call(ctx, case, kwargs):
    """Gives a request that is valid by the document a key that no other one has.

    No document can say that a key belongs to one request, or that two headers must be equal. The text of
    a key that need not be a UUID is kept, with a UUID at its end.
    """
    if not case.meta.generation.mode.is_positive:
        return
    unique = str(uuid.uuid4())
    for parameter in case.operation.headers:
        if parameter.name in case.headers and parameter.name in KEYS:
            is_uuid = parameter.definition["schema"].get("format") == "uuid"
            kept = "" if is_uuid else case.headers[parameter.name][:200] + " "
            case.headers[parameter.name] = kept + unique


@schemathesis.check
def retry_gets_the_first_response(ctx, response, case):
    """A success with a key is replayed to the same request, byte by byte."""
    sent = response.request
    if not 200 <= response.status_code < 300 or not any(key in sent.headers for key in KEYS):
        return
    with requests.Session() as session:
        session.trust_env = False
        again = session.send(sent)
    assert again.headers.get("idempotent-replayed") == "true", "it is no replay"
    assert (again.status_code, again.content) == (response.status_code, response.content)
    for name in ("content-type", "location"):
        assert again.headers.get(name) == ", ".join(response.headers.get(name, [])), name
