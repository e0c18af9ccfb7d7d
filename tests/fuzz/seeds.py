"""Where fuzzing begins: small inputs of every kind, made from our own captures, conversations and files."""

from __future__ import annotations

import gzip
import lzma
from functools import cache
from pathlib import Path

import lz4.frame
import zstandard

from auditor.capture import open_capture
from tests.capture.make import Blocks, pcap
from tests.conftest import ROOT
from tests.fuzz.targets import pack_frames, pack_talk

SAMPLES = ROOT / "captures" / "sample"
FRAMES_A_SEED = 14
SEED_BYTES = 5_000
TEXT_BYTES = 20_000


@cache
def _sample_frames() -> list[tuple[int, bytes]]:
    found = []
    for name in ("diego.pcapng", "healthy.pcap"):
        with open_capture(SAMPLES / name) as reader:
            for batch in reader.batches():
                for start, size, link in zip(batch.start, batch.caplen_bytes, batch.link_type, strict=True):
                    found.append((int(link), batch.buf[start : start + size].tobytes()))
    return found


def _flow(frame: tuple[int, bytes]) -> bytes:
    """Protocol, addresses and ports of an Ethernet frame with IPv4, both ends in one order."""
    data = frame[1]
    if data[12:14] != b"\x08\x00" or len(data) < 38:
        return data[12:14]
    ends = sorted((data[26:30] + data[34:36], data[30:34] + data[36:38]))
    return data[23:24] + b"".join(ends)


@cache
def conversations() -> list[list[tuple[int, bytes]]]:
    """Connections of the samples, one for each service port and way to begin."""
    flows: dict[bytes, list[tuple[int, bytes]]] = {}
    for frame in _sample_frames():
        flows.setdefault(_flow(frame), []).append(frame)
    kept: dict[tuple[bytes, int], list[tuple[int, bytes]]] = {}
    for flow in flows.values():
        first = flow[0][1]
        some: list[tuple[int, bytes]] = []
        for each in flow[:FRAMES_A_SEED]:
            if sum(len(data) for _, data in some) + len(each[1]) <= SEED_BYTES:
                some.append(each)
        kept.setdefault((first[23:24] + first[36:38], len(some) // 6), some)
    return list(kept.values())


def _frames() -> list[bytes]:
    from tests.frames import every_kind

    kinds = list(every_kind())
    return [pack_frames(flow) for flow in conversations()] + [
        pack_frames(kinds[k : k + 8]) for k in range(0, len(kinds), 8)
    ]


def _captures() -> list[bytes]:
    found = []
    for k, flow in enumerate(conversations()):
        records = [(1_800_000_000 + n, n * 1_000, data) for n, (_, data) in enumerate(flow)]
        found.append(
            pcap(records, order="<>"[k % 4 == 3], magic=(0xA1B2C3D4, 0xA1B23C4D, 0xA1B2CD34, 0x1C0001AB)[k % 7 % 4])
        )
        if k % 3 == 0:
            blocks = (
                Blocks("<>"[k % 2]).section().interface(1, 96 * (k % 2), name="eth0", tsresol=9, description="cell")
            )
            for n, (_, data) in enumerate(flow):
                blocks.enhanced(n * 10**6, data, lost=n if k % 2 else None)
            found.append(
                blocks.statistics(0, ifdrop=k)
                .simple(flow[0][1])
                .old_packet(5, flow[-1][1])
                .block(0xBAD, bytes(8))
                .bytes
            )
    some = found[0]
    found += [gzip.compress(some), lzma.compress(some), lz4.frame.compress(some), zstandard.compress(some)]
    found.append(zstandard.compress(gzip.compress(some)))
    return found


def _talks() -> dict[str, list[bytes]]:
    from tests.inspectors.test_catalogue import CONVERSATIONS

    return {
        name: [
            pack_talk(client, server),
            pack_talk(client, server, 0b10010),
            pack_talk(server, client, 0b1001001),
            pack_talk(client[:90], b""),
        ]
        for name, (client, server) in CONVERSATIONS.items()
    }


def _texts(*places: str) -> list[bytes]:
    files = [file for place in places for file in sorted(ROOT.glob(place)) if file.is_file()]
    return [file.read_bytes()[:TEXT_BYTES] for file in files]


_INVENTORIES = (
    b"- {ip: 10.0.4.20, name: cell one, role: diego_cell}\n- {ip: 10.0.4.21, name: diego_brain/0}\n",
    b"ip;name;role;from;fronts\n10.0.4.20;diego_cell/0;;;\n192.0.2.10;lb;load_balancer;2026-01-01;uaa\n",
    b'{"Tables":[{"Rows":[{"instance":"diego_cell/1","ips":"10.0.4.1\\n10.0.5.1","az":"z1","process_state":"running"}]}]}',
    b'{"record_keys":["id","num_id","instance_group","az","ip","deployment"],"record_infos":[["a","0","nats","z1","10.0.0.9","cf"]]}',
    b"schema: auditor.inventory/1\nnetworks: [10.0.0.0/16]\nvms:\n  - {name: diego_cell/2, ips: [10.0.4.20, 'fd00::20'], until: 2026-03-01T12:00:00Z}\nexternals:\n"
    b"  - {name: lb, ip: 192.0.2.10, role: load_balancer, fronts: {role: uaa, ports: 8443}}\n",
)
_POLICY = (
    b"schema: auditor.policy/1\nname: ours\nversion: '1'\ntitle: Ours\noverlay: true\nambient: true\norigin: {title: t, url: 'https://a.b'}\n"
    b"roles:\n  - {name: redis, components: [Redis]}\npaths:\n  - id: cell-to-redis\n    source: {vm: diego_cell, component: App}\n"
    b"    destination: {vm: redis, component: Redis}\n    ports: [6379, 16379-16383]\n    application: TCP\n    authentication: {any: [mutual_tls, basic]}\n"
)
_FIELDS = (
    b'{"index":{}}\n{"timestamp":"1","layers":{"frame_number":["7"],"frame_time_epoch":["1.5"],"ip_src":["10.0.0.1"],"ip_dst":["10.0.0.2"],'
    b'"tcp_srcport":["40000"],"tcp_dstport":["443"],"tls_record_content_type":["22","23"],"tls_handshake_type":["1","11","20"],'
    b'"tls_handshake_certificates_length":["7"],"tls_handshake_certificate_length":["4"],"tls_handshake_certificate":["30:03:02:01"],'
    b'"http_request_method":["GET"],"http_request_uri":["/?md5=1"],"http_authorization":["Basic x"],"http_response_code":["200"]}}\n'
    b'<packet>\n<proto name="geninfo"><field name="num" show="7"/></proto><proto name="http"><field name="http.request.method" show="GET"/></proto>\n</packet>\n'
)


def seeds(name: str, kind: str) -> list[bytes]:
    """For a target of the catalogue; never empty."""
    if kind == "capture":
        return _captures()
    if kind == "frames":
        return _frames()
    if kind == "talk":
        talks = _talks()
        own = talks.get(name.removeprefix("inspect-"))
        return own or [each for some in talks.values() for each in some]
    if name == "policy":
        return [_POLICY, *_texts("policies/*.yml")]
    if name == "inventory":
        return [*_INVENTORIES, *_texts("captures/sample/*.inventory.yml")]
    if name == "authorities":
        from cryptography import x509
        from cryptography.hazmat.primitives.serialization import Encoding

        texts = _texts("captures/sample/diego.ca/*")
        return texts + [x509.load_pem_x509_certificates(each)[0].public_bytes(Encoding.DER) for each in texts]
    return [_FIELDS]


def write(folder: Path, name: str, kind: str) -> int:
    """Each seed as a file; how many."""
    folder.mkdir(parents=True, exist_ok=True)
    found = seeds(name, kind)
    for k, data in enumerate(found):
        (folder / f"seed-{k:03}").write_bytes(data)
    return len(found)
