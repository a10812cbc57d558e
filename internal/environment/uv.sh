# Runs uv with the settings that pip would use on this machine: uv reads neither pip's variables nor its files.
# $1 is the environment's folder, the rest is the command. What is set for uv itself wins.
set -eu
home=$1
shift

# The value of a key in pip's files, nearest first.
pip_setting() {
	for file in "${PIP_CONFIG_FILE:-}" "${HOME:-/nonexistent}/.config/pip/pip.conf" "${HOME:-/nonexistent}/.pip/pip.conf" /etc/pip.conf; do
		[ -f "$file" ] || continue
		value=$(awk -v key="$1" '
			/^[ \t]*\[/ { inside = ($0 ~ /\[(global|install)\]/) }
			inside && match($0, "^" key "[ \t]*[=:][ \t]*") { print substr($0, RLENGTH + 1); exit }' "$file")
		[ -z "$value" ] || { printf '%s' "$value"; return; }
	done
}

if [ -z "${UV_DEFAULT_INDEX:-}${UV_INDEX_URL:-}${UV_INDEX:-}" ] && [ ! -f "${HOME:-/nonexistent}/.config/uv/uv.toml" ] && [ ! -f /etc/uv/uv.toml ]; then
	index=${PIP_INDEX_URL:-$(pip_setting index-url)}
	extra=${PIP_EXTRA_INDEX_URL:-$(pip_setting extra-index-url)}
	links=${PIP_FIND_LINKS:-$(pip_setting find-links)}
	[ -z "$index" ] || export UV_DEFAULT_INDEX="$index"
	[ -z "$extra" ] || export UV_INDEX="$extra"
	[ -z "$links" ] || [ -n "${UV_FIND_LINKS:-}" ] || export UV_FIND_LINKS="$(printf '%s' "$links" | tr -s ' \n' ',')"
fi
if [ -z "${SSL_CERT_FILE:-}" ]; then
	cert=${PIP_CERT:-${REQUESTS_CA_BUNDLE:-$(pip_setting cert)}}
	if [ -n "$cert" ]; then
		export SSL_CERT_FILE="$cert"
	elif [ -f /etc/ssl/certs/ca-certificates.crt ] || [ -f /etc/pki/tls/certs/ca-bundle.crt ]; then
		# uv brings its own roots; those of the machine may hold one of its owner's.
		export UV_NATIVE_TLS="${UV_NATIVE_TLS:-1}" UV_SYSTEM_CERTS="${UV_SYSTEM_CERTS:-1}"
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
