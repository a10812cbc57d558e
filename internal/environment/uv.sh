# Runs uv with the settings that pip would use on this machine: uv reads neither pip's variables nor its files.
# $1 is the environment's folder, the rest is the command. What is set for uv itself wins.
set -eu
home=$1
shift
: "${HOME:=/nonexistent}"
config=${XDG_CONFIG_HOME:-$HOME/.config}

# The value of a key in pip's files, nearest first. Lines that begin with a space go on with the value before them.
pip_setting() {
	[ "${PIP_CONFIG_FILE:-}" != /dev/null ] || return 0 # pip's way to say: no files
	for file in "${PIP_CONFIG_FILE:-}" "$config/pip/pip.conf" "$HOME/.pip/pip.conf" \
		"$HOME/Library/Application Support/pip/pip.conf" /etc/xdg/pip/pip.conf /etc/pip.conf; do
		[ -f "$file" ] || continue
		value=$(awk -v key="$1" '
			/^[ \t]*[#;]/ { next }
			/^\[/ { inside = ($0 ~ /^\[(global|install)\]/); mine = 0; next }
			mine && /^[ \t]+[^ \t]/ { sub(/^[ \t]+/, ""); value = value " " $0; next }
			{ mine = 0 }
			inside { line = $0; name = line; sub(/[ \t]*[=:].*$/, "", name); gsub(/_/, "-", name)
				if (name == key) { sub(/^[^=:]*[=:][ \t]*/, "", line); value = line; mine = 1 } }
			END { sub(/^[ \t]+/, "", value); print value }' "$file")
		[ -z "$value" ] || { printf '%s' "$value"; return; }
	done
}
# on NAME VALUE: exports a variable, unless it has a value or there is none to give.
on() { eval "[ -n \"\${$1:-}\" ]" || [ -z "$2" ] || export "$1=$2"; }
commas() { printf '%s' "$1" | tr -s ' \n' ','; }

if [ -z "${UV_CONFIG_FILE:-}" ] && [ ! -f "$config/uv/uv.toml" ] && [ ! -f /etc/uv/uv.toml ]; then
	if [ -z "${UV_DEFAULT_INDEX:-}${UV_INDEX_URL:-}${UV_INDEX:-}" ]; then
		on UV_DEFAULT_INDEX "${PIP_INDEX_URL:-$(pip_setting index-url)}"
		on UV_INDEX "${PIP_EXTRA_INDEX_URL:-$(pip_setting extra-index-url)}"
		on UV_FIND_LINKS "$(commas "${PIP_FIND_LINKS:-$(pip_setting find-links)}")"
		case ${PIP_NO_INDEX:-$(pip_setting no-index)} in 1 | [Tt]rue | [Yy]es | on) on UV_NO_INDEX 1 ;; esac
	fi
	# Several indexes are one to pip, of which the best version is taken; what is written for pip relies on it.
	on UV_INDEX_STRATEGY unsafe-best-match
fi
on UV_INSECURE_HOST "${PIP_TRUSTED_HOST:-$(pip_setting trusted-host)}"
on SSL_CLIENT_CERT "${PIP_CLIENT_CERT:-$(pip_setting client-cert)}"
proxy=${PIP_PROXY:-$(pip_setting proxy)}
[ -n "${https_proxy:-}${ALL_PROXY:-}" ] || on HTTPS_PROXY "$proxy"
[ -n "${http_proxy:-}${ALL_PROXY:-}" ] || on HTTP_PROXY "$proxy"
if [ -z "${SSL_CERT_FILE:-}" ]; then
	on SSL_CERT_FILE "${PIP_CERT:-${REQUESTS_CA_BUNDLE:-${CURL_CA_BUNDLE:-$(pip_setting cert)}}}"
	if [ -z "${SSL_CERT_FILE:-}" ] && { [ -f /etc/ssl/certs/ca-certificates.crt ] || [ -f /etc/pki/tls/certs/ca-bundle.crt ] || [ -f /etc/ssl/ca-bundle.pem ]; }; then
		# uv brings its own roots; those of the machine may hold one of its owner's.
		on UV_NATIVE_TLS 1
		on UV_SYSTEM_CERTS 1
	fi
fi

# What uv downloads stays in or beside the environment's folder, so that detaching removes it; the machine's own Python
# is taken before one that uv would have to fetch.
if [ -z "${UV_CACHE_DIR:-}" ]; then
	export UV_CACHE_DIR="$(dirname "$home")/.uv-cache"
	# The cache begins anew every month, or it would grow for ever. Environments keep their files: they are links or copies.
	[ -z "$(find "$UV_CACHE_DIR/.since" -mtime +30 2>/dev/null)" ] || "$1" cache clean
	[ -e "$UV_CACHE_DIR/.since" ] || { mkdir -p "$UV_CACHE_DIR" && : >"$UV_CACHE_DIR/.since"; }
fi
export UV_PYTHON_INSTALL_DIR="$home/python" UV_PYTHON_PREFERENCE="${UV_PYTHON_PREFERENCE:-system}"
export UV_NO_PROGRESS=1 UV_NO_MODIFY_PATH=1
exec "$@"
