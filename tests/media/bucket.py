"""A server with the S3 API and one bucket: prints its port, and serves until its input ends. With the argument `plain`
it takes no conditions on writes, as some servers do."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

BUCKET = "files"
CREDENTIALS = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "region_name": "us-east-1"}

Application = Callable[[dict[str, Any], Any], Iterable[bytes]]


def plain(served: Application) -> Application:
    """Return the application without conditional writes."""

    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "PUT" and "HTTP_IF_NONE_MATCH" in environ:
            start_response("501 Not Implemented", [("Content-Length", "0")])
            return []
        return served(environ, start_response)

    return answer


if __name__ == "__main__":
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    application: Application = DomainDispatcherApplication(create_backend_app)
    application = plain(application) if sys.argv[1:] == ["plain"] else application
    server = make_server("127.0.0.1", 0, application, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    boto3.client("s3", endpoint_url=f"http://127.0.0.1:{server.port}", **CREDENTIALS).create_bucket(Bucket=BUCKET)
    print(server.port, flush=True)
    sys.stdin.read()
