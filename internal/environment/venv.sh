# Makes a virtual environment with the Python that is asked for, or, where it cannot be had and the policy lets it, with the nearest.
# $1 is the environment's folder, $2 uv, $3 the policy (exact, compatible), $4 a version, a range, or nothing for any Python.
set -eu
home=$1 uv=$2 policy=$3 want=${4:-}
: "${HOME:=/nonexistent}"

# Where people have Pythons, beside PATH.
add() { [ ! -d "$1" ] || places=$places:$1; }
places=
for place in /usr/local/bin /usr/bin /bin /opt/homebrew/bin /opt/local/bin /usr/local/python*/bin /opt/python*/bin /opt/python/*/bin \
	"${PYENV_ROOT:-$HOME/.pyenv}"/versions/*/bin "$HOME"/.asdf/installs/python/*/bin "$HOME"/.local/share/mise/installs/python/*/bin \
	"$HOME/.local/bin" "${XDG_DATA_HOME:-$HOME/.local/share}"/uv/python/*/bin "${UV_PYTHON_INSTALL_DIR:-/nonexistent}"/*/bin; do
	add "$place"
done
for conda in "${CONDA_PREFIX:-/nonexistent}" "${CONDA_EXE:-/nonexistent/bin/conda}" "${MAMBA_ROOT_PREFIX:-$HOME/micromamba}" \
	"$HOME/miniconda3" "$HOME/anaconda3" "$HOME/miniforge3" "$HOME/mambaforge" \
	/opt/conda /opt/miniconda3 /opt/anaconda3 /opt/miniforge3 /opt/miniconda /opt/anaconda /anaconda /anaconda3 /usr/local/miniconda3 /usr/local/anaconda3; do
	conda=${conda%/bin/conda}
	add "$conda/bin"
	for place in "$conda"/envs/*/bin; do add "$place"; done
done

# Shims of pyenv stand for no Python that could be looked into; the Pythons themselves are among the places.
own=
rest=$PATH:
while [ -n "$rest" ]; do
	dir=${rest%%:*} rest=${rest#*:}
	case $dir in '' | */shims) ;; *) own=$own:$dir ;; esac
done
export PATH="${own#:}$places"

# What serves is said in the log, and kept for the logs of those who find the environment made.
say() { echo "$1" && echo "$1" >>"$home/say"; }
run() { sh "$home/uv.sh" "$home" "$uv" "$@"; }
# A broken program at the head of PATH makes uv give up; the places are then tried alone.
look() {
	run python find --system --no-project --no-python-downloads ${1:+"$1"} 2>/dev/null ||
		PATH=${places#:} run python find --system --no-project --no-python-downloads ${1:+"$1"} 2>/dev/null
}
make() { run venv --quiet --python "$1" "$home/venv"; }
fetch() {
	echo "Python $1 is not on this machine; uv is asked to fetch it"
	UV_PYTHON_PREFERENCE=only-managed make "$1"
}
version() { "$1" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])'; }

if found=$(look "$want"); then
	say "Python $(version "$found") at $found"
	make "$found"
	exit
fi
if [ "$policy" = exact ] || [ -z "$want" ]; then
	fetch "${want:-3}"
	exit
fi
case $want in
*[!0-9.]*) ;;
*.*.*)
	if found=$(look "${want%.*}"); then
		say "Python $(version "$found") at $found, because $want is not here and the policy for Python is compatible"
		make "$found"
		exit
	fi
	;;
esac
if UV_HTTP_RETRIES=${UV_HTTP_RETRIES:-1} fetch "$want"; then
	exit
fi
# The next newer one, because programs rarely mind; else the next older.
minor=$(printf '%s\n' "$want" | sed -n 's/^[^0-9]*3\.\([0-9][0-9]*\).*/\1/p')
newer=${minor:-8} older=${minor:-8}
while [ "$newer" -lt 20 ] || [ "$older" -gt 7 ]; do
	if [ "$newer" -lt 20 ]; then
		newer=$((newer + 1)) try=$newer
	else
		older=$((older - 1)) try=$older
	fi
	if found=$(look "3.$try"); then
		say "warning: Python $want cannot be had; Python $(version "$found") at $found is used, because the policy for Python is compatible"
		make "$found"
		exit
	fi
done
echo "no Python is on this machine, and uv cannot fetch one: install python3, or let it reach what uv downloads from" >&2
exit 1
