"""An S3 server on loopback, for tests."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from unittest.mock import patch

import fsspec


@dataclass(frozen=True)
class Store:
    """Where it listens."""

    address: str

    @property
    def settings(self) -> dict[str, str]:
        """What AWS's own libraries read of the environment."""
        keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
        return {**keys, "AWS_ENDPOINT_URL": self.address}

    @contextmanager
    def known(self) -> Iterator[None]:
        """Inside, ``s3://`` means this one."""
        with patch.dict(os.environ, self.settings):
            fsspec.get_filesystem_class("s3").clear_instance_cache()
            try:
                yield
            finally:
                fsspec.get_filesystem_class("s3").clear_instance_cache()


@contextmanager
def object_store(objects: Mapping[str, bytes]) -> Iterator[Store]:
    """A server with these objects, named by bucket and key."""
    from moto.server import ThreadedMotoServer  # takes a while to import

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        made = Store(f"http://{host}:{port}")
        with made.known():
            fs = fsspec.filesystem("s3")
            for bucket in {each.partition("/")[0] for each in objects}:
                fs.mkdir(bucket)
            for name, data in objects.items():
                fs.pipe(name, data)
        yield made
    finally:
        server.stop()
