"""The policies that come with the package say what their pages say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from auditor.policy import shipped
from auditor.policy.loader import check_policy, load_policy
from auditor.policy.policy import Policy

NAMES_ALONE = "cf-deployment-names"
"""It declares how certificates are named, and no path."""

# The page "Diego Network Communications", row by row: VM (component) at each end, port, application, authentication.
DIEGO_PAGE = """
cloud_controller                    | diego_database (BBS)          | 8889 | HTTPS | Mutual TLS
cloud_controller (Routing API)      | diego_database (Locket)       | 8891 | HTTPS | Mutual TLS
diego_brain (Auctioneer)            | diego_cell (Rep)              | 1801 | HTTPS | Mutual TLS
diego_brain (Auctioneer)            | diego_database (BBS)          | 8889 | HTTPS | Mutual TLS
diego_brain (Auctioneer)            | diego_database (Locket)       | 8891 | HTTPS | Mutual TLS
diego_brain (SSH Proxy)             | diego_database (BBS)          | 8889 | HTTPS | Mutual TLS
diego_brain (SSH Proxy)             | diego_cell (App instances)    | Varies | SSH | SSH
diego_brain (TPS Watcher)           | diego_database (Locket)       | 8891 | HTTPS | Mutual TLS
diego_cell (local Route Emitter)    | diego_database (BBS)          | 8889 | HTTPS | Mutual TLS
diego_cell (Rep)                    | diego_brain (CC Uploader)     | 9091 | HTTPS | Mutual TLS
diego_cell (Rep)                    | diego_brain (File Server)     | 8447 | HTTPS | TLS
diego_cell (Rep)                    | diego_database (BBS)          | 8889 | HTTPS | Mutual TLS
diego_cell (Rep)                    | diego_database (Locket)       | 8891 | HTTPS | Mutual TLS
diego_database (BBS)                | diego_brain (Auctioneer)      | 9016 | HTTPS | Mutual TLS
diego_database (BBS)                | diego_cell (Rep)              | 1801 | HTTPS | Mutual TLS
diego_database (BBS)                | diego_database (Locket)       | 8891 | HTTPS | Mutual TLS
diego_brain                         | cloud_controller              | 9023 | HTTPS | Mutual TLS
diego_brain (SSH Proxy)             | cloud_controller              | 9024 | HTTPS | OAuth 2.0
diego_brain (SSH Proxy)             | uaa                           | 443 | HTTPS | TLS and OAuth 2.0
diego_cell (local Route Emitter)    | nats                          | 4222, 4223, 4224, 4225 | NATS | Basic authentication
diego_cell (Rep)                    | cloud_controller              | 9023 | HTTPS | Mutual TLS
diego_cell (Rep)                    | nfs_server or other blobstore | Varies | HTTP | Signed URLs/TLS
diego_database (BBS)                | cloud_controller              | 9023 | HTTPS | Mutual TLS
diego_database (BBS)                | mysql_proxy                   | 3306 | MySQL | MySQL authentication
diego_database (Locket)             | mysql_proxy                   | 3306 | MySQL | MySQL authentication
"""

IDS = [
    "cc-to-bbs", "routing-api-to-locket", "auctioneer-to-rep", "auctioneer-to-bbs", "auctioneer-to-locket",
    "ssh-proxy-to-bbs", "ssh-proxy-to-app", "tps-watcher-to-locket", "route-emitter-to-bbs", "rep-to-cc-uploader",
    "rep-to-file-server", "rep-to-bbs", "rep-to-locket", "bbs-to-auctioneer", "bbs-to-rep", "bbs-to-locket", "brain-to-cc",
    "ssh-proxy-to-cc", "ssh-proxy-to-uaa", "route-emitter-to-nats", "rep-to-cc", "rep-to-blobstore", "bbs-to-cc",
    "bbs-to-mysql", "locket-to-mysql",
]  # fmt: skip


def test_tas_diego_has_the_page_row_by_row(tas_diego: Policy) -> None:
    page = [tuple(cell.strip() for cell in line.split("|")) for line in DIEGO_PAGE.strip().splitlines()]
    assert len(page) == 25
    told = [path.describe() for path in tas_diego.paths]
    ours = [
        (one["source"], one["destination"], one["ports"], one["application"], one["authentication"]) for one in told
    ]
    assert ours == page
    assert [path.row for path in tas_diego.paths] == list(range(1, 26))
    assert tas_diego.all_paths == tas_diego.paths, "nothing ambient in tas-diego"


def test_path_ids_never_change(tas_diego: Policy) -> None:
    assert [path.id for path in tas_diego.paths] == IDS


def test_each_row_names_its_source(tas_diego: Policy) -> None:
    for path in tas_diego.paths:
        assert path.origin.page == "diego"
        assert path.origin.section
        assert path.origin.line
        assert path.origin.file == "tas-diego.yml"
        assert path.origin.releases == "TAS 2.7, TAS 2.10..TPCF 10"
        assert path.transport == "tcp"


def test_footnotes_are_conditions(tas_diego: Policy) -> None:
    ssh = tas_diego.path("ssh-proxy-to-app")
    assert (ssh.ports, ssh.varies) == (((61001, 65534),), False)
    assert "61001-65534" in (ssh.footnote or "")
    blobstore = tas_diego.path("rep-to-blobstore")
    assert (blobstore.ports, blobstore.varies) == (((4443, 4443),), True)
    assert blobstore.authentication == {"any": ["signed_url", "tls"]}
    for name in ("bbs-to-mysql", "locket-to-mysql"):
        path = tas_diego.path(name)
        assert path.authentication == "mysql_native_password"
        assert [one.kind for one in path.conditions] == ["only_with", "method"]
        assert path.footnote == "internal MySQL only; MySQL native password method"


@pytest.mark.parametrize(
    ("path", "required"),
    [
        ("auctioneer-to-rep", "mutual_tls"), ("rep-to-file-server", "tls"), ("ssh-proxy-to-cc", "oauth2"),
        ("ssh-proxy-to-uaa", {"all": ["tls", "oauth2"]}), ("route-emitter-to-nats", "basic"), ("ssh-proxy-to-app", "ssh"),
    ],
)  # fmt: skip
def test_authentication_is_typed(tas_diego: Policy, path: str, required: object) -> None:
    assert tas_diego.path(path).authentication == required


def test_judgement_settings_stand_beside_the_rows(tas_diego: Policy) -> None:
    settings = tas_diego.settings
    assert settings.tls_minimum == "1.2"
    assert settings.forbidden_suites == ("NULL", "anonymous", "EXPORT", "RC4", "DES", "3DES")
    assert settings.names == "lenient"
    assert settings.origin
    assert settings.origin != tas_diego.paths[0].origin.title


@pytest.mark.parametrize(
    ("name", "use", "components"),
    [
        ("bbs.service.cf.internal", "server", {"bbs"}),
        ("node-0.bbs.service.cf.internal", "client", {"bbs"}),
        ("BBS-Client", "client", {"auctioneer", "ssh_proxy", "tps_watcher", "route_emitter"}),
        ("bbs_client", "client", {"auctioneer", "ssh_proxy", "tps_watcher", "route_emitter"}),
        ("cell.service.cf.internal", "client", {"rep"}),
        ("tps_watcher", "client", {"tps_watcher"}),
    ],
)
def test_certificate_names_belong_to_components(tas_diego: Policy, name: str, use: str, components: set[str]) -> None:
    (identity,) = tas_diego.identify(name)
    assert identity.slugs == components
    assert use in identity.use


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "api.example.com", "a.b.bbs.service.cf.internal", ""])
def test_other_names_attribute_nothing(tas_diego: Policy, name: str) -> None:
    assert tas_diego.identify(name) == ()


@pytest.mark.parametrize(
    ("group", "roles"),
    [
        ("diego_cell", ["diego_cell"]), ("diego-cell", ["diego_cell"]), ("Diego-Cell", ["diego_cell"]),
        ("isolated_diego_cell", ["diego_cell"]), ("isolated-diego-cell", ["diego_cell"]),
        ("isolated_diego_cell_is1", ["diego_cell"]), ("windows_diego_cell", ["diego_cell", "cell_on_windows"]),
        ("windows2019-cell", ["diego_cell", "cell_on_windows"]), ("windows2016_cell", ["diego_cell", "cell_on_windows"]), ("windows_cell", ["diego_cell", "cell_on_windows"]),
        ("windows_diego_cell_is2", ["diego_cell", "cell_on_windows"]), ("compute", ["diego_cell"]),
        ("diego_cell-partition-0a1b2c", ["diego_cell"]), ("scheduler", ["diego_brain", "clock_global"]),
        ("diego-api", ["diego_database"]), ("api", ["cloud_controller", "diego_brain", "diego_database"]),
        ("singleton-blobstore", ["nfs_server"]), ("cc-worker", ["cloud_controller_worker"]),
        ("database", ["mysql_proxy", "mysql", "nats"]), ("log-api", ["loggregator_trafficcontroller"]),
        ("isolated_router", ["router"]),
    ],
)  # fmt: skip
def test_aliases(tas_diego: Policy, group: str, roles: list[str]) -> None:
    held = tas_diego.held_by(group)
    assert held is not None
    assert [one.role for one in held] == roles


def test_small_footprint_control_holds_eleven_roles(tas_diego: Policy) -> None:
    held = tas_diego.held_by("control")
    assert held is not None
    assert len(held) == 11
    assert {"diego_brain", "diego_database", "cloud_controller", "uaa"} <= {one.role for one in held}
    assert all(one.components is None for one in held)


def test_api_holds_only_parts_of_diego_roles(tas_diego: Policy) -> None:
    held = {one.role: one.components for one in tas_diego.held_by("api") or ()}
    assert held["cloud_controller"] is None
    assert held["diego_brain"] == {"cc_uploader", "file_server"}
    assert held["diego_database"] is not None
    assert "bbs" not in held["diego_database"]


@pytest.mark.parametrize("group", ["", "?", "cell", "redis", "diego", "compute2"])
def test_other_groups_are_unknown(tas_diego: Policy, group: str) -> None:
    assert tas_diego.held_by(group) is None


@pytest.mark.parametrize("name", shipped.names())
def test_every_shipped_policy_is_valid(name: str) -> None:
    assert check_policy(name) == []


def test_all_shipped_policies_load_together() -> None:
    policy = load_policy(shipped.names())
    assert {source["name"] for source in policy.sources} == set(shipped.names())
    assert len(policy.paths) == 25
    assert {path.policy for path in policy.ambient_paths} == set(shipped.names()) - {"tas-diego", "tas", NAMES_ALONE}
    assert all(len(source["sha256"]) == 64 and source["version"] for source in policy.sources)


def test_the_overlays_that_the_documents_name_are_there() -> None:
    wanted = {"bosh-dns", "bosh", "c2c", "cc", "loggregator", "routing", "nats", "mysql", "uaa", "credhub"}
    assert wanted <= set(shipped.names())
    assert shipped.names()[0] == "tas-diego"


@pytest.mark.parametrize("name", [name for name in shipped.names() if name not in ("tas-diego", "tas", NAMES_ALONE)])
def test_overlay_paths_are_ambient_and_name_their_own_source(name: str) -> None:
    policy = load_policy([name])
    own = [path for path in policy.all_paths if path.policy == name]
    assert own
    assert all(path.ambient and path.origin.title for path in own)
    assert len(policy.paths) == 25, "an overlay adds to tas-diego, which comes by itself"


def test_names_are_presumed_until_the_operator_declares_them() -> None:
    assert not any(each.declared for each in load_policy().identities)
    named = load_policy([NAMES_ALONE])
    assert named.identities
    assert all(each.declared and each.table == "tas-diego" for each in named.identities)
    assert {path.id for path in named.all_paths} == {path.id for path in load_policy().all_paths}


def test_the_default_is_the_table_and_every_sibling_and_says_so() -> None:
    whole, table = load_policy([shipped.DEFAULT]), load_policy([shipped.BASE])
    assert whole.paths == table.paths, "the vendor's 25 rows are the documented ones"
    assert {path.policy for path in whole.ambient_paths} == set(shipped.names()) - {"tas", "tas-diego", NAMES_ALONE}
    first, *members = whole.sources
    assert (first["name"], "profile" in first) == ("tas", False)
    assert {each["profile"] for each in members} == {"tas"}
    assert load_policy([shipped.DEFAULT, "nats", shipped.BASE]).all_paths == whole.all_paths, "named twice, loaded once"


def test_rows_that_no_page_of_the_vendor_has_name_repository_commit_and_path() -> None:
    ours = [path for path in load_policy([shipped.DEFAULT]).all_paths if path.row is None]
    named = {path.id for path in ours if re.search(r"/blob/[0-9a-f]{40}/.+$", path.origin.url or "")}
    assert {path.id for path in ours} - named == {"icmp-between-vms"}, "its source are two RFCs"
    assert {"policy-server-registrar-to-nats", "ssh-proxy-to-container", "router-to-container"} <= named


def test_editors_find_the_schema() -> None:
    place = shipped.folder()
    assert place is not None
    for name in shipped.names():
        assert (place / f"{name}.yml").read_text().startswith("# yaml-language-server: $schema=schema.json\n")


def test_an_unknown_name_is_no_file() -> None:
    assert shipped.find("tas-diegoo") is None
    assert isinstance(shipped.find("tas-diego"), Path)
