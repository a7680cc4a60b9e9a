"""Exit 0 when the server of this container answers requests: for HEALTHCHECK and exec probes.

    python deploy/healthcheck.py

It needs nothing but Python. PORT is the server's where that is neither 8000 (web, fleet) nor
5000 (serve).
"""

import json
import os
import sys
import urllib.error
import urllib.request

ASKED = "http://127.0.0.1:{}{}"
PORTS = (os.environ.get("PORT"), "8000", "5000")


def status(port: str) -> str:
    """What the server at `port` says of itself; "" where none listens."""
    for path in ("/readyz", "/health-check"):  # of web and fleet; of Cog's server
        try:
            with urllib.request.urlopen(ASKED.format(port, path), timeout=8) as answer:
                return str(json.load(answer).get("status"))
        except urllib.error.HTTPError as error:
            if error.code != 404:
                return f"{error.code} {error.read(300).decode(errors='replace')}"
        except OSError:
            return ""
    return ""


found = next(filter(None, (status(port) for port in PORTS if port)), "nobody listens")
print(found)
# Cog answers 200 while it sets up and when that has failed; BUSY means that its slots are taken.
sys.exit(found not in ("ready", "READY", "BUSY"))
