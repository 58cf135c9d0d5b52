"""What client and server say to each other over HTTP.

    GET  /v1/plan            the plan's and the specs' SHA-256, to know each other by
    PUT  /v1/keys/{sha256}   evaluation keys
    POST /v1/run             a ciphertext; the answer is another

Every request and answer of /v1/run names the plan, the keys and its own bytes by their SHA-256, and an answer also the
request that it is for, so that none is taken for another.
"""

from __future__ import annotations

PLAN_PATH, KEYS_PATH, RUN_PATH = "/v1/plan", "/v1/keys/", "/v1/run"
PLAN, KEYS, REQUEST, RESPONSE = "Inhibit-Plan", "Inhibit-Keys", "Inhibit-Request", "Inhibit-Response"
HOST = "127.0.0.1"  # alone: what is to be reached from elsewhere needs TLS, and so a proxy that has it
PORT = 8731
BYTES = "application/octet-stream"
