set -u
# Whether this host can lose packets by a rule, and lose the rule again by itself.
if ! command -v nft >/dev/null; then
    echo "nft is not installed"
elif ! nft list tables >/dev/null 2>&1; then
    echo "nft does not work: $(nft list tables 2>&1 | head -n 1)"
elif ! command -v systemd-run >/dev/null; then
    echo "systemd-run is not installed"
fi
