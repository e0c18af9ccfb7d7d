"""From tshark's trees of a connection's frames to trees that may be shown.

A tree comes as PDML, tshark's XML: ``proto`` elements, one a layer, of nested ``field`` elements with ``name``, ``showname`` (for people),
``show`` (for scripts), ``value`` (hex), ``size`` and ``hide``. What is made of each is a plain dictionary:
``name``, ``text``, ``value`` (only where it is shown whole), ``masked`` (only where it is not), ``fields``.
"""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from typing import Any

from auditor.tshark import _masking as masking
from auditor.tshark._masking import Secrets
from auditor.wire.text import clip, escape

MAX_TEXT = 400
_MAX_CLOSED_FIELDS = 200
_MAX_STREAM_BYTES = 4 * 1024 * 1024

_ADDRESSED = frozenset({"frame", "eth", "ip", "ipv6"})
_TITLES = {"http": "Hypertext Transfer Protocol", "http2": "HyperText Transfer Protocol 2", "mysql": "MySQL Protocol"}

Node = dict[str, Any]


def _bytes(element: Any) -> bytes:
    """What a field was on the wire."""
    text = element.get("unmaskedvalue") or element.get("value") or ""
    try:
        return binascii.unhexlify(text)
    except (binascii.Error, ValueError):
        return b""


def collect(packets: Sequence[Any]) -> Secrets:
    """All credentials in the trees of a connection's frames."""
    secrets = Secrets()
    streams: dict[str, bytearray] = {}
    for packet in packets:
        sender = ""
        for layer in packet.findall("proto"):
            title = layer.get("name") or ""
            for element in layer.iter("field"):
                name, shown = element.get("name") or "", element.get("show") or ""
                if name in {"tcp.srcport", "udp.srcport"}:
                    sender = shown
                value = _bytes(element)
                if name in {"tcp.payload", "udp.payload"}:
                    stream = streams.setdefault(sender, bytearray())
                    stream += value[: max(_MAX_STREAM_BYTES - len(stream), 0)]
                for secret in masking.field_secrets(title, name, shown, value):
                    secrets.add(secret)
                if len(value) >= 6 and title not in _ADDRESSED:
                    secrets.look_through(value)
                if len(shown) >= 6 and title not in masking.OPEN_LAYERS:
                    secrets.look_through(shown.encode("utf-8", "replace"))
                    secrets.look_through((element.get("showname") or "").encode("utf-8", "replace"))
    for stream in streams.values():  # a credential that two segments share is seen only here
        secrets.look_through(bytes(stream))
    return secrets


def frame(packet: Any, secrets: Secrets) -> Node:
    """One frame: its number, its time, its layers."""
    layers: list[Node] = []
    number, time = 0, ""
    for layer in packet.findall("proto"):
        name = layer.get("name") or ""
        if name == "geninfo":
            for element in layer.findall("field"):
                if element.get("name") == "num":
                    number = int(element.get("show") or 0)
                elif element.get("name") == "timestamp":
                    time = _clean(element.get("value") or "", secrets)
            continue
        layers.append(_layer(layer, name, secrets))
    stray = packet.findall("field")
    if stray:
        layers.append(
            {"name": "data", "text": f"{sum(_size(each) for each in stray)} bytes, not shown", "masked": True}
        )
    return {"frame": number, "time": time, "layers": layers}


def _size(element: Any) -> int:
    text = element.get("size") or ""
    return int(text) if text.isdigit() else 0


def _clean(text: str, secrets: Secrets) -> str:
    return clip(escape(secrets.scrub(text)), MAX_TEXT)


def _layer(layer: Any, name: str, secrets: Secrets) -> Node:
    if name in masking.OPEN_LAYERS:
        text = _clean(masking.without_bytes(layer.get("showname") or layer.get("show") or name, name), secrets)
    elif name in _TITLES:
        text = _TITLES[name]
    else:
        text = f"{escape(name) or 'data'}: {_size(layer)} bytes, not shown"
        node: Node = {"name": name, "text": text, "masked": True}
        fields = [
            {"name": known, "text": f"{escape(known)}: {_size(each)} bytes, not shown", "masked": True}
            for each in list(layer.iter("field"))[:_MAX_CLOSED_FIELDS]
            if (known := each.get("name")) and each.get("hide") != "yes"
        ]
        return node | ({"fields": fields} if fields else {})
    node = {"name": name, "text": text}
    fields = _fields(layer, name, secrets)
    return node | ({"fields": fields} if fields else {})


def _fields(parent: Any, layer: str, secrets: Secrets) -> list[Node]:
    made: list[Node] = []
    header = ""
    for element in parent.findall("field"):
        name = element.get("name") or ""
        if name == "http2.header.name":
            header = element.get("show") or ""
        if element.get("hide") == "yes" or _is_idle(element, name, layer):
            continue
        node = _field(element, name, layer, header, secrets)
        inside = _fields(element, layer, secrets)
        made.append(node | ({"fields": inside} if inside else {}))
    made += [_layer(inner, inner.get("name") or "", secrets) for inner in parent.findall("proto")]
    return made


def _is_idle(element: Any, name: str, layer: str) -> bool:
    """Whether it can be left out: line ends, and comments on the fields beside them."""
    bare = layer not in masking.OPEN_LAYERS and element.find("field") is None
    return bare and ((not name and _size(element) <= 2) or name == "http.chat")


def _field(element: Any, name: str, layer: str, header: str, secrets: Secrets) -> Node:
    shown = element.get("show") or ""
    label = (element.get("showname") or shown or name).removesuffix("\\r\\n")
    if layer == "http2" and name == "http2.header.value":
        fit = masking.header(header, shown)
        if fit is None:
            return {"name": name, "text": _clean(label, secrets), "value": _clean(shown, secrets)}
        return {"name": name, "text": f"Value: {_clean(fit, secrets)}", "masked": True}
    kind = masking.rule(layer, name, shown)
    if layer not in masking.OPEN_LAYERS and name.startswith("_ws."):
        kind = "show" if name in {"_ws.expert.severity", "_ws.expert.group"} else "label"
    if kind == "show":
        node: Node = {"name": name} if name else {}
        text = _clean(masking.without_bytes(label, name), secrets)
        return node | {"text": text} | ({"value": _clean(shown, secrets)} if name and shown else {})
    known = escape(name)
    if kind == "line":
        title, colon, value = shown.strip().partition(":")
        title = masking.header_name(title.strip()) if colon else "(no header's name)"
        fit = masking.header(title, value.strip())
        if fit is None:
            return {"name": name, "text": _clean(shown.strip(), secrets)}
        return {"name": name, "text": f"{_clean(title, secrets)}: {_clean(fit, secrets)}", "masked": True}
    if kind in {"url", "query", "scheme"}:
        fit = {"url": masking.url, "query": masking.query, "scheme": masking.scheme}[kind](shown)
        return {"name": name, "text": f"{known}: {_clean(fit, secrets)}", "masked": fit != shown}
    size = _size(element)
    has_children = element.find("field") is not None
    if kind == "label" and has_children:
        return {"name": name, "text": known or "(line)", "masked": True}
    return {"name": name, "text": f"{known or 'text'}: {size} bytes, not shown", "masked": True}
