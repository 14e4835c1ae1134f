"""Lists zones, creates, edits and deletes a DNS record, and verifies the token, by the SDK."""

import os

from cloudflare import Cloudflare

client = Cloudflare(base_url=os.environ["CLOUDFLARE_BASE_URL"])

status = client.user.tokens.verify()
assert status is not None and status.status == "active", status

zones = [zone for zone in client.zones.list()]
zone = next(zone for zone in zones if zone.name == "example.com")

record = client.dns.records.create(
    zone_id=zone.id, type="TXT", name="tollgate.example.com", content='"first"', ttl=300
)
edited = client.dns.records.edit(
    record.id, zone_id=zone.id, type="TXT", name="tollgate.example.com", content='"second"', ttl=300
)
assert "second" in edited.content, edited
names = [found.name for found in client.dns.records.list(zone_id=zone.id)]
assert "tollgate.example.com" in names, names
client.dns.records.delete(record.id, zone_id=zone.id)
names = [found.name for found in client.dns.records.list(zone_id=zone.id)]
assert "tollgate.example.com" not in names, names
print("all done")
