"""A POST that is safe to retry: python retry.py http://127.0.0.1:3000 (needs `requests`)."""

import sys
import uuid

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry


class KeyedRetry(Retry):
    # A 409 says when to retry if the first request is still running, and only then.
    RETRY_AFTER_STATUS_CODES = frozenset({409, 429, 503})


def session(tries=6):
    retry = KeyedRetry(
        total=tries - 1,
        allowed_methods=None,  # POST as well: its key makes it safe
        status_forcelist={429, 500, 502, 503, 504},
        backoff_factor=0.1,
        backoff_jitter=0.1,
        raise_on_status=False,  # gives the last response instead
    )
    session = requests.Session()
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    return session


def post(session, url, body, key):
    return session.post(url, json=body, headers={"idempotency-key": key}, timeout=30)


if __name__ == "__main__":
    url = f"{sys.argv[1]}/downstream-entities/onboarding/invite"
    body = {"email": "ada@example.com", "entityName": "Ada Ltd"}
    response = post(session(), url, body, key=str(uuid.uuid4()))
    replayed = response.headers.get("idempotent-replayed", "false")
    print(response.status_code, replayed, response.json()["id"])
