#!/usr/bin/env bash
# Starts Pexdock. In a checkout it first creates the environment, builds missing and outdated pexes, and trains the example models; in the
# image it only unpacks base. Arguments are passed to `pexdock serve`. With `unpack` as the first argument it fills the cache and exits, and
# with `pexdock` it runs the command that follows, such as `pexdock models`.
# PEXDOCK_PYTHON names the interpreter of the image, by default python3.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
unset PYTHONDONTWRITEBYTECODE PYTHONPATH PYTHONHOME

dist=${PEXDOCK_DIST_PATH:-dist}
artifacts=${PEXDOCK_ARTIFACTS_PATH:-artifacts}
cache=${PEXDOCK_CACHE_PATH:-${XDG_CACHE_HOME:-${HOME-~}/.cache}/pexdock}

# Each step runs in a process group of its own, so that Ctrl-C and SIGTERM stop all of it at once. Otherwise bash would ignore SIGTERM as
# the first process of a container, and would wait for the step to finish elsewhere. A step gets SIGTERM, since a shell that was started in
# the background ignores SIGINT, and so do its children.
step= copy=
stop() {
    trap '' INT TERM
    [ -z "$step" ] || kill -TERM -- "-$step" 2>/dev/null || true
    wait
    [ -z "$copy" ] || rm -f "$copy"
    exit "$1"
}
trap 'stop 130' INT
trap 'stop 143' TERM
run() {
    set -m
    "$@" &
    step=$!
    set +m
    local code=0
    wait "$step" || code=$?
    step=
    return "$code"
}

if [ -e pyproject.toml ]; then
    run ./scripts/setup
    python=.venv/bin/python
    # 3: some models could not be built, and the reasons were printed; the others can be served.
    run "$python" -m runtime.build . "$dist" "$cache" || [ $? = 3 ]
    for train in models/*/*/train.py; do
        [ -e "$train" ] || continue
        package=$(basename "$(dirname "$train")")
        PYTHONPATH=$(dirname "$(dirname "$train")") run "$python" -m "$package.train" --artifacts "$artifacts"
    done
else
    python=${PEXDOCK_PYTHON:-python3}
    # The volumes of the image belong to its user. Root takes them while they are empty: its workers may run as that user.
    for folder in "$cache" "${PEXDOCK_STATE_PATH:-}"; do
        if [ "$(id -u)" = 0 ] && [ -d "$folder" ] && [ -z "$(ls -A "$folder")" ]; then
            chown 0 "$folder" && chmod go-w "$folder" || true
        fi
    done
fi

fail() {
    echo "error: $1" >&2
    exit 1
}
if [ ! -d "$dist" ]; then
    fail "there is no folder $dist for pexes: mount one there, or set PEXDOCK_DIST_PATH to another one"
elif [ ! -r "$dist" ] || [ ! -x "$dist" ]; then
    fail "user $(id -u) may not read the folder $dist: give it access, run as its owner, or set PEXDOCK_DIST_PATH to another folder"
fi
mapfile -t bases < <(find -L "$dist" -maxdepth 1 -type f -name 'base-*.pex' 2>/dev/null | sort -rV)
if [ ${#bases[@]} = 0 ]; then
    fail "there is no base-<version>.pex in $dist: copy one there, or build one in a checkout with \`pexdock build base\`"
fi

# The code that unpacks base is part of base, so this script needs nothing but Python. For the same reason it cannot verify a signature: if
# trust is configured, base must be listed by its digest. It is copied first, and the copy is verified and run, since the file may change.
# The newest base that can be used is run; another one may still be arriving.
unpack='
import hashlib, json, os, sys, tomllib, zipfile
cache, answer, copy, count, *words = sys.argv[1:]
bases, flags = words[: int(count)], words[int(count) :]

class Untrusted(Exception):
    pass

def setting(name):
    flag = "--" + name.replace("_", "-")
    given = [value for argument, value in zip(flags, flags[1:]) if argument == flag]
    given += [argument[len(flag) + 1 :] for argument in flags if argument.startswith(flag + "=")]
    config = os.environ.get("PEXDOCK_CONFIG") or "pexdock.toml"
    config = next((value for argument, value in zip(flags, flags[1:]) if argument == "--config"), config)
    try:
        in_file = tomllib.load(open(config, "rb")) if os.path.isfile(config) else {}
    except (OSError, ValueError) as exc:
        sys.exit(f"error: cannot read {config}: {exc}; correct it, or name another file with --config or PEXDOCK_CONFIG")
    return given[-1] if given else os.environ.get("PEXDOCK_" + name.upper()) or in_file.get(name)

def trusted(pex):
    with open(pex, "rb") as source, open(copy, "wb") as target:
        while data := source.read(1 << 20):
            target.write(data)
    sha256 = hashlib.file_digest(open(copy, "rb"), "sha256").hexdigest()
    if sha256 not in digests:
        raise Untrusted(f"is not trusted: add its sha256, {sha256}, to trusted_digests_path; its signature cannot be verified before it runs")
    return copy

listed = setting("trusted_digests_path")
is_checked = listed or setting("trusted_keys_path")
try:
    digests = {line.lstrip("\\")[:64].lower() for line in open(os.path.expanduser(listed))} if listed else set()
except (OSError, ValueError) as exc:
    sys.exit(f"error: cannot read {listed} (setting trusted_digests_path): {exc}; correct it, or choose another file")
problems = []
for base in bases:
    try:
        pex = trusted(base) if is_checked else base
        wheels = json.loads(zipfile.ZipFile(pex).read("PEX-INFO"))["distributions"]
        sys.path.insert(0, next(f"{pex}/.deps/{name}" for name in wheels if name.startswith("pexdock-")))
        break
    except Untrusted as exc:
        problems.append(f"{base} {exc}")
    except OSError as exc:
        if exc.filename != base:
            sys.exit(f"error: cannot use {exc.filename or cache}: {exc.strerror}")
        problems.append(f"cannot read {base}: {exc.strerror}; give user {os.geteuid()} access to it, or remove it")
    except (KeyError, TypeError, ValueError, StopIteration, zipfile.BadZipFile):
        problems.append(f"{base} is not a base, or is still being copied: wait, or replace or remove it")
else:
    sys.exit("\n".join(f"error: {problem}" for problem in problems))
for problem in problems:
    print(f"warning: {problem}; {base} is used instead", file=sys.stderr)
from runtime.pex.unpack import main
sys.exit(main([pex, cache, answer]))
'
mkdir -p "$cache" 2>/dev/null && [ -w "$cache" ] && [ -x "$cache" ] ||
    fail "user $(id -u) cannot write to the folder $cache, into which base is unpacked: mount a writable one there, as with \`docker run -v\` or \`--tmpfs $cache:exec,uid=$(id -u)\`, or set PEXDOCK_CACHE_PATH to another folder"
owner=$(stat -Lc %u "$cache")
[ "$owner" = 0 ] || [ "$owner" = "$(id -u)" ] ||
    fail "the folder $cache belongs to user $owner, whose code could run: make user $(id -u) its owner, or set PEXDOCK_CACHE_PATH to another folder"
answer=$cache/.unpacked.$$ copy=$cache/.base.$$.pex
rm -f "$copy"
code=0
run "$python" -I -c "$unpack" "$cache" "$answer" "$copy" ${#bases[@]} "${bases[@]}" "$@" || code=$?
rm -f "$copy"
[ "$code" = 0 ] || { rm -f "$answer"; exit "$code"; }
folder=$(cat "$answer")
rm -f "$answer"
trap - INT TERM
case ${1:-} in
    unpack) ;;
    pexdock) shift ;;
    *) set -- serve "$@" ;;
esac
exec "$folder/venv/bin/python" -I -m runtime "$@"
