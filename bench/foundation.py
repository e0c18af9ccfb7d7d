"""The VMs of the shape ``diego``, and who has which address."""

ROLES = {
    "diego_cell": 120,
    "diego_brain": 8,
    "diego_database": 6,
    "cloud_controller": 8,
    "uaa": 4,
    "nats": 4,
    "mysql_proxy": 3,
    "nfs_server": 2,
}
HOSTS = [f"{role}/{number}" for role, count in ROLES.items() for number in range(count)]
"""In the order of their addresses."""


def inventory() -> list[dict[str, str]]:
    """Who has which address."""
    return [{"ip": f"10.0.16.{10 + k}", "name": name, "role": name.split("/")[0]} for k, name in enumerate(HOSTS)]
