//! Which token scope a request needs. The API's 403 does not say, so this table does.
//!
//! Source: the `security` entries of DigitalOcean's OpenAPI description (2026-08).

/// Scopes that the token in `failover_token` needs: it moves an address and reads what that takes.
pub const FAILOVER: [&str; 7] = [
    "reserved_ip:update",
    "reserved_ip:read",
    "droplet:read",
    "regions:read",
    "sizes:read",
    "actions:read",
    "image:read",
];

/// The scope that a request needs; `None` for a path that we do not know.
pub fn needed(method: &str, path: &str) -> Option<&'static str> {
    let mut parts = path.strip_prefix("/v2/")?.trim_end_matches('/').split('/');
    let (kind, rest): (_, Vec<_>) = (parts.next()?, parts.collect());
    let verbs = match (kind, rest.as_slice()) {
        ("account", []) => return (method == "GET").then_some("account:read"),
        ("account", ["keys", ..]) => ["ssh_key:read", "ssh_key:create", "ssh_key:update", "ssh_key:delete"],
        ("actions", _) => return (method == "GET").then_some("actions:read"),
        // An action on a droplet, or on all of a tag, is an update of it, though it is a POST.
        ("droplets", [.., "actions"]) => ["droplet:read", "droplet:update", "", ""],
        ("droplets", _) => ["droplet:read", "droplet:create", "droplet:update", "droplet:delete"],
        ("reserved_ips" | "floating_ips", [_, "actions", ..]) => {
            ["reserved_ip:read", "reserved_ip:update", "", ""]
        }
        ("reserved_ips" | "floating_ips", _) => {
            ["reserved_ip:read", "reserved_ip:create", "", "reserved_ip:delete"]
        }
        ("images", _) => ["image:read", "image:create", "image:update", "image:delete"],
        ("regions", _) => ["regions:read", "", "", ""],
        ("sizes", _) => ["sizes:read", "", "", ""],
        ("tags", _) => ["tag:read", "tag:create", "", "tag:delete"],
        ("spaces", ["keys", ..]) => {
            ["spaces_key:read", "spaces_key:create_credentials", "spaces_key:update", "spaces_key:delete"]
        }
        ("vpcs", _) => ["vpc:read", "vpc:create", "vpc:update", "vpc:delete"],
        ("projects", [_, "resources"]) => ["project:read", "project:assign_resource", "", ""],
        ("projects", _) => ["project:read", "project:create", "project:update", "project:delete"],
        _ => return None,
    };
    let scope = match method {
        "GET" => verbs[0],
        "POST" => verbs[1],
        "PUT" | "PATCH" => verbs[2],
        "DELETE" => verbs[3],
        _ => "",
    };
    (!scope.is_empty()).then_some(scope)
}

#[cfg(test)]
mod tests {
    use super::needed;

    #[test]
    fn requests_map_to_scopes() {
        for (method, path, want) in [
            ("GET", "/v2/account", "account:read"),
            ("POST", "/v2/account/keys", "ssh_key:create"),
            ("GET", "/v2/droplets/7", "droplet:read"),
            ("POST", "/v2/droplets", "droplet:create"),
            ("POST", "/v2/droplets/7/actions", "droplet:update"),
            ("POST", "/v2/droplets/actions", "droplet:update"),
            ("GET", "/v2/droplets/7/actions/9", "droplet:read"),
            ("DELETE", "/v2/droplets/7", "droplet:delete"),
            ("POST", "/v2/reserved_ips", "reserved_ip:create"),
            ("POST", "/v2/floating_ips/10.0.0.1/actions", "reserved_ip:update"),
            ("GET", "/v2/reserved_ips/10.0.0.1/actions/4", "reserved_ip:read"),
            ("DELETE", "/v2/reserved_ips/10.0.0.1", "reserved_ip:delete"),
            ("POST", "/v2/spaces/keys", "spaces_key:create_credentials"),
            ("DELETE", "/v2/spaces/keys/DO00X", "spaces_key:delete"),
            ("POST", "/v2/tags/a:b/resources", "tag:create"),
            ("POST", "/v2/projects/default/resources", "project:assign_resource"),
        ] {
            assert_eq!(needed(method, path), Some(want), "{method} {path}");
        }
        assert_eq!(needed("GET", "/v2/unheard_of"), None);
        assert_eq!(needed("POST", "/v2/sizes"), None);
    }
}
