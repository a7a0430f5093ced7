# What `cluster plan --json` would write on bare hosts, as plain data for other tools. $state is the state directory's
# secrets.json, as a plan shows no passwords; $program is where the node program lies.

# A file of which nothing is there yet: its diff has every line of it, with a + in front.
def whole: (.diff | split("\n")[1:] | map(.[1:]) | join("\n"));
def content:
    if .path == "/etc/cluster/key" then $state[0].passwords.key
    elif .path == "/etc/cluster/check-password" then $state[0].passwords.cluster
    elif (.path | endswith("/.pgpass")) then
        "# host:port:database:user:password. Written by `cluster up`.\n*:\($port):*:repmgr:\($state[0].passwords.repmgr)\n"
    else whole end;
def notify:
    if (.path | startswith("/etc/systemd/system/")) then ["Reload systemd"]
    elif (.path | startswith("/etc/postgresql/")) then ["Reload PostgreSQL"]
    else [] end;
def file:
    {
        path, mode, content: content, notify: notify, owner: (.owner | split(":")[0]), group: (.owner | split(":")[1])
    };
def quoted: "'" + . + "'";
def role($name; $rights; $password):
    "select 'create role \($name)' where not exists (select from pg_roles where rolname = '\($name)') \\gexec\n" +
    "alter role \($name) login \($rights) password \($password | quoted);\n";
def repmgr_role:
    role("repmgr"; "superuser replication"; $state[0].passwords.repmgr) + (
        {
            default_transaction_deferrable: "off", default_transaction_isolation: "read committed",
            default_transaction_read_only: "off", idle_in_transaction_session_timeout: "0", lock_timeout: "0",
            log_statement: "none", statement_timeout: "0", synchronous_commit: "local"
        } | to_entries | map("alter role repmgr set \(.key) = \(.value | quoted);\n") | join("")
    );

([.steps[] | select(.kind == "write-files")] | group_by(.node) | map({(.[0].node): [.[].files[]]}) | add) as $files
| {
    cluster, version: $version, postgresql_port: $port,
    desired: {
        packages: ["postgresql-\($version)", "postgresql-\($version)-repmgr", "sudo"],
        program: $program,
        before_install: ($files | first(.[]) | first(.[] | select(.path | test("/createcluster.d/"))) | file),
        files: ($files | map_values(map(select(.path | test("/createcluster.d/") | not) | file))),
        conninfo: ($files.pg1 | first(.[] | select(.path == "/etc/repmgr.conf")) | whole | capture("(?m)^conninfo='(?<it>[^']*)'").it),
        roles: {
            primary: (repmgr_role + role("cluster"; ""; $state[0].passwords.cluster) +
                "create extension if not exists pg_stat_statements;\n"),
            witness: repmgr_role
        }
    }
}
