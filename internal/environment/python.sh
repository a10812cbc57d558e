# Makes "python" mean one that the machine has, which is used as it is.
# $1 is the environment's folder, $2 a path or the name of a program, $3 "optional" if jobs may do without.
set -eu
home=$1 want=$2 optional=${3:-}
case $want in
"~/"*) want=$HOME/${want#"~/"} ;;
esac
mkdir -p "$home/bin"
case $want in
/*)
	[ -x "$want" ] || {
		echo "$want is no program on this machine: correct interpreterPath, or let the environment install its packages" >&2
		exit 1
	}
	found=$want
	;;
*/*) found=$want ;; # in the job's code, which is not here yet
*)
	found=$(command -v "$want" || { [ "$want" = python ] && command -v python3; }) || {
		echo "the login's PATH finds no $want: install it, or correct interpreterPath" >&2
		[ -z "$optional" ] || exit 0
		exit 1
	}
	;;
esac
case $found in
/*) echo "python is $found ($("$found" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])'))" ;;
*) echo "python is $found in the job's code" ;;
esac
quoted=$(printf '%s\n' "$found" | sed "s/'/'\\\\''/g")
# Programs that stand beside it, like pip, belong to it.
case $want in
*/*) beside="PATH='${quoted%/*}':\$PATH " ;;
*) beside= ;;
esac
printf "#!/bin/sh\n%sexec '%s' \"\$@\"\n" "${beside:+export $beside
}" "$quoted" >"$home/bin/python"
chmod 700 "$home/bin/python"
