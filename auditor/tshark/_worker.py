"""The process in which pyshark runs, so that its event loop, leaks and crashes do not affect the audit.

It reads one task, a JSON object, from standard input, lets pyshark drive tshark, and writes JSON lines: a tree for each frame, masked
here already, and at last how it went. Nothing that is to be masked leaves this process.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from auditor.tshark._process import complaint
from auditor.tshark._tree import collect, frame


class _Packet:
    """A frame's tree as pyshark hands it on."""

    def __init__(self, tree: Any, size: int) -> None:
        self.tree, self.size = tree, size


def _capture(task: dict[str, Any], said: list[bytes]) -> Any:
    """pyshark's capture of a file, whose packets keep their tree."""
    from lxml import etree  # type: ignore[import-untyped]  # it has no types, and comes with pyshark
    from pyshark.capture.file_capture import FileCapture
    from pyshark.tshark.output_parser.tshark_xml import DEL_BAD_XML_CHARS, TsharkXmlParser

    class Trees(TsharkXmlParser):  # type: ignore[misc]  # pyshark has no types
        """Fields stay nested, which pyshark's own packets do not keep."""

        def _parse_single_packet(self, packet: bytes) -> _Packet:
            text = packet.decode(errors="replace").translate(DEL_BAD_XML_CHARS).encode()
            parser = etree.XMLParser(
                huge_tree=True, recover=True, resolve_entities=False, no_network=True, encoding="utf-8"
            )
            return _Packet(etree.fromstring(text, parser), len(packet))

    class File(FileCapture):  # type: ignore[misc]  # pyshark has no types
        """A file with its own event loop; tshark's messages are kept."""

        def _setup_eventloop(self) -> None:
            self.eventloop = asyncio.new_event_loop()
            asyncio.set_event_loop(self.eventloop)

        def _setup_tshark_output_parser(self) -> Trees:
            return Trees()

        async def _handle_process_stderr_forever(self, stderr: Any) -> None:
            while line := await stderr.read(4096):
                said.append(line[:4096])
                del said[64:]

    return File(
        task["capture"],
        keep_packets=False,
        display_filter=task["filter"],
        tshark_path=task["tshark"],
        custom_parameters=task["parameters"],
    )


def main() -> None:
    """One task."""
    task = json.load(sys.stdin)
    said: list[bytes] = []
    packets: list[Any] = []
    whole, truncated, failed, left = False, False, None, int(task["max_bytes"])
    try:
        capture = _capture(task, said)
        for packet in capture:
            left -= packet.size
            if len(packets) >= task["limit"] or left < 0:
                truncated = True
                break
            if packet.tree is not None:
                packets.append(packet.tree)
        whole = True
        capture.close()
    except Exception as error:  # pyshark reports a truncated capture by its own exception, after the last packet
        failed = type(error).__name__
    if whole and not complaint(b"".join(said)):
        # All packets were read, and tshark had nothing to say: how its end looked to pyshark (which may kill it in a hurry) takes nothing away.
        failed = None
    secrets = collect(packets)
    for packet in packets:
        sys.stdout.write(json.dumps(frame(packet, secrets)) + "\n")
    end = {
        "truncated": truncated,
        "failed": failed and not truncated,
        "class": failed,
        "says": complaint(b"".join(said)),
    }
    sys.stdout.write(json.dumps({"end": end}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
