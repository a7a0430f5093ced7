# What `cluster up` makes of bare Debian hosts, for pyinfra: the same as benches/ansible/site.yaml, in as few operations. The
# files come from `cluster plan --json`, by benches/compare.sh.
import json
import os
from pathlib import Path

from pyinfra import host
from pyinfra.facts.files import File
from pyinfra.facts.server import Command
from pyinfra.operations import apt, files, server, systemd

given = json.loads(Path(os.environ["BENCH_DESIRED"]).read_text(encoding="utf-8"))
desired, cluster, version, port = (given[name] for name in ("desired", "cluster", "version", "postgresql_port"))
node, role = host.data.node, host.data.role
data = f"/var/lib/postgresql/{version}/main"
binaries = f"/usr/lib/postgresql/{version}/bin"
as_postgres = "setpriv --reuid=postgres --regid=postgres --init-groups"
psql = f"{as_postgres} {binaries}/psql -XAtqw -v ON_ERROR_STOP=1 -p {port}"
repmgr = f"runuser -u postgres -- {binaries}/repmgr -f /etc/repmgr.conf"
identifier = f"$({as_postgres} {binaries}/pg_controldata -D {data} | sed -n 's/^Database system identifier: *//p')"
start = f"systemctl --no-block start postgresql@{version}-main && until pg_isready -q -p {port}; do sleep 0.1; done"

# All that is done once is done on a host that does not have its mark, which is asked for in one round trip.
made = host.get_fact(File, path="/etc/cluster/data.json")
registered = made and host.get_fact(
    Command,
    f"cd / && {psql} -d repmgr -c 'select 1 from repmgr.nodes where node_id = {host.data.node_id} and active'",
)


# An operation that some hosts do not have would have no place among the others': all have it, and some leave it out.
def only(wanted):
    return lambda: bool(wanted)


def put(file):
    return files.put(
        name=file["path"],
        src=f"{given['files']}/{node}{file['path']}",
        dest=file["path"],
        user=file["owner"],
        group=file["group"],
        mode=file["mode"],
    )


put(desired["before_install"])
apt.packages(
    name="Packages",
    packages=desired["packages"],
    no_recommends=True,
    update=not made,
    extra_install_args="-o Dpkg::Options::=--force-confold -o Dpkg::Options::=--force-unsafe-io",
)
files.put(name="Node program", src=desired["program"], dest="/usr/local/bin/cluster-node", mode="755")
# The package's init script counts as running, and would keep repmgrd's unit from being started.
server.shell(
    name="Data directory",
    commands=[
        f"systemctl stop repmgrd && cluster-node mark --cluster {cluster} creating && cd / && "
        f"{as_postgres} pg_createcluster {version} main "
        f"--port {port} --locale C.UTF-8 --encoding UTF8 --start-conf manual -- "
        "--data-checksums --auth-local peer --auth-host scram-sha-256 && "
        f"find /var/log/postgresql -maxdepth 1 -name 'postgresql-{version}-main.log' -size 0 -delete && "
        f'cluster-node mark --cluster {cluster} --system-identifier "{identifier}" virgin && '
        "cluster-node new-cluster"
    ],
    _if=only(not made),
)
changed = {}
for file in desired["files"][node]:
    operation = put(file)
    for what in file["notify"]:
        changed.setdefault(what, []).append(operation)


def any_of(notify):
    return lambda: any(operation.did_change() for operation in changed[notify])


systemd.daemon_reload(name="Reload systemd", _if=any_of("Reload systemd"))
server.shell(
    name="Reload PostgreSQL",
    commands=[
        f"cd / && if [ -e {data}/postmaster.pid ]; then {psql} -d postgres -c 'select pg_reload_conf()' && "
        "touch /run/cluster/postgresql.reloaded; fi"
    ],
    _if=any_of("Reload PostgreSQL"),
)
server.shell(
    name="First start",
    commands=[
        f'cluster-node mark --cluster {cluster} --system-identifier "{identifier}" {role} && '
        f"mkdir -p /run/cluster && touch /run/cluster/first-start && {start}"
    ],
    _if=only(not made and role != "standby"),
)
# The roles' passwords are on no command line.
server.shell(
    name="Roles and databases",
    commands=[f"cd / && {psql} -d postgres -f - && {psql} -d postgres -c 'create database repmgr owner repmgr'"],
    _stdin=desired["roles"].get(role, ""),
    _if=only(not made and role != "standby"),
)
server.shell(
    name="Registration of the primary",
    commands=[
        f"cd / && {repmgr} primary register --force && {psql} -d postgres -c 'create database cluster owner cluster'"
    ],
    _if=only(not made and role == "primary"),
)
server.shell(
    name="Clone",
    commands=[
        f"cluster-node mark --cluster {cluster} cloning && cd / && rm -rf {data} && "
        f"{repmgr} -d '{desired['conninfo']}' standby clone --fast-checkpoint && "
        f'cluster-node mark --cluster {cluster} --system-identifier "{identifier}" standby && {start}'
    ],
    _if=only(not made and role == "standby"),
)
register = f"witness register --force -h {host.data.primary_host}"
if role == "standby":
    register = "standby register --force --wait-sync=30"
server.shell(
    name="Registration",
    commands=[f"cd / && {repmgr} {register}"],
    _if=only(not registered and role != "primary"),
)
for unit in ("cluster-node", "repmgrd"):
    systemd.service(name=unit, service=unit, running=True, enabled=True)
