"""A Nuclio function that passes CVAT's calls on to this server; see function.yaml."""

import json
import os
import urllib.error
import urllib.request


def handler(context, event):
    """Forward one call; errors keep their status and their one line."""
    body = event.body if isinstance(event.body, dict) else json.loads(event.body)
    if os.environ["SAM3_ROUTE"] == "detector":
        body["labels"] = json.loads(os.environ["SAM3_LABELS"])
    request = urllib.request.Request(
        f"{os.environ['SAM3_SERVER']}/cvat/{os.environ['SAM3_ROUTE']}",
        data=json.dumps(body).encode(),
        headers={
            "Content-Type": "application/json",
            "Authorization": f"Bearer {os.environ.get('SAM3_TOKEN', '')}",
        },
    )
    try:
        with urllib.request.urlopen(request) as answer:
            status, text = answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read().decode()
    return context.Response(
        body=text, headers={}, content_type="application/json", status_code=status
    )
