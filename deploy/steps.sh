# Steps that deploy/up, deploy/down and deploy/test share. Sourced, never run: the caller has set -euo pipefail.
# shellcheck shell=bash disable=SC2034 # the names are for the scripts that source this

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME="${HOME:-/root}"
export DEBIAN_FRONTEND=noninteractive
umask 022

CHECKOUT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
VENV=$CHECKOUT/.venv
LOCK=$CHECKOUT/deploy/requirements.lock
CONFIG=/etc/crisp/crisp.yaml
CNI_FILE=/etc/cni/net.d/10-crisp.conflist
POLICY=/etc/containers/policy.json
LOG=/var/log/crisp/crisp.log
PID_FILE=/run/crisp-daemon.pid
LINK=/usr/local/bin/crisp
UNIT=/etc/systemd/system/crisp.service

# The Debian packages that crisp needs, each with a probe that says whether what we want of it is here already,
# from whatever package: a machine with another vendor's runc keeps it.
RUN_PACKAGES=(
    "runc=command:runc" "crun=command:crun" "conmon=command:conmon" "catatonit=command:catatonit"
    "containernetworking-plugins=cni:bridge" "nftables=command:nft" "iptables=command:iptables"
    "busybox=command:busybox" "iproute2=command:ip" "procps=command:pgrep" "util-linux=command:setsid"
    "libarchive13=library:libarchive.so.13" "libseccomp2=library:libseccomp.so.2"
    "python3=command:python3" "python3-venv=venv:" "ca-certificates=file:/etc/ssl/certs/ca-certificates.crt"
)

step() { printf '==> %s\n' "$*"; }
note() { printf '    %s\n' "$*"; }

# fail WHAT HINT: say what failed and what to do about it, and end.
fail() {
    printf '\n==> failed: %s\n    %s\n' "$1" "$2" >&2
    exit 1
}

require_root() {
    [ "$(id -u)" = 0 ] || fail "$1 needs root" "run it as: sudo $1"
}

require_debian() {
    [ -e /etc/debian_version ] || fail "this is not Debian or one of its family" \
        "install runc, crun, conmon, the CNI plugins, nftables, iptables, libarchive and python3 by hand, then: python3 -m venv .venv && .venv/bin/pip install -e . && .venv/bin/crisp daemon"
}

# One run of these scripts at a time. Whatever is started in the background must close descriptor 9.
lock_deploy() {
    exec 9>/run/lock/crisp-deploy.lock
    flock -w 600 9 || fail "another deploy script has been running for ten minutes" "see what it does: fuser -v /run/lock/crisp-deploy.lock"
}

is_here() {
    local kind=${1%%:*} what=${1#*:}
    case $kind in
        command) command -v "$what" >/dev/null ;;
        file) [ -e "$what" ] ;;
        cni) [ -x "/usr/lib/cni/$what" ] || [ -x "/opt/cni/bin/$what" ] ;;
        library) ldconfig -p | grep -F "$what " >/dev/null ;;
        venv) python=$(find_python) && "$python" -c 'import ensurepip, venv' 2>/dev/null ;;
        *) false ;;
    esac
}

# install_packages PACKAGE=PROBE...: install those whose probe fails; no apt-get where none is missing.
install_packages() {
    local item name missing=()
    for item in "$@"; do
        is_here "${item#*=}" || missing+=("${item%%=*}")
    done
    if [ ${#missing[@]} = 0 ]; then
        note "all there"
        return
    fi
    command -v apt-get >/dev/null || fail "apt-get is missing, and so are: ${missing[*]}" "install them by hand"
    note "installing ${missing[*]}"
    apt-get update -qq </dev/null || note "apt-get update failed; going on with the package lists that are here"
    local names=()
    for name in "${missing[@]}"; do
        # Debian 13 and later renamed a few libraries; the newer name is taken where it exists.
        if apt-cache show "${name}t64" >/dev/null 2>&1; then name+=t64; fi
        names+=("$name")
    done
    # No service of these packages is to start by itself, so a policy says no while they are installed.
    local policy=/usr/sbin/policy-rc.d made=
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod 755 $policy
        made=1
    fi
    local result=0
    apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=300 "${names[@]}" </dev/null || result=$?
    if [ -n "$made" ]; then rm -f $policy; fi
    [ $result = 0 ] || fail "apt-get install ${names[*]}" "read what apt says above; often the network or a held package; then run this again"
    for item in "$@"; do
        is_here "${item#*=}" || fail "package ${item%%=*} is installed and does not give ${item#*=}" "look at: dpkg -L ${item%%=*}"
    done
}

# The Python to use: Debian's own where it is new enough, else the newest of 3.11 and later.
find_python() {
    local candidate
    for candidate in /usr/bin/python3 /usr/bin/python3.{15,14,13,12,11} /usr/local/bin/python3{,.14,.13,.12,.11} python3; do
        candidate=$(command -v "$candidate") || continue
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    return 1
}

# make_venv EXTRAS: .venv with crisp and its dependencies as the lock says; nothing to do where its stamp fits.
make_venv() {
    local extras=$1 python want have=
    python=$(find_python) || fail "no python3 of version 3.11 or later is here" "on Debian 12: apt-get install python3 python3-venv"
    want="$("$python" -V) $(cat "$CHECKOUT/pyproject.toml" "$LOCK" | sha256sum | cut -d' ' -f1)"
    if [ -x "$VENV/bin/python" ] && "$VENV/bin/python" -c 'import kernel.config.reading' 2>/dev/null; then
        have=$(cat "$VENV/stamp" 2>/dev/null || true)
    fi
    # What has the tests' packages has crisp's own too.
    if [ "$have" = "$want $extras" ] || { [ -z "$extras" ] && [ "$have" = "$want test" ]; }; then
        note "up to date"
        return
    fi
    rm -f "$VENV/stamp"
    if ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
        "$python" -m venv --clear "$VENV" || fail "cannot make $VENV with $python" "apt-get install python3-venv, or see whether the disk is full"
    fi
    "$VENV/bin/python" -m pip install -q --disable-pip-version-check --no-input -c "$LOCK" -e "$CHECKOUT${extras:+[$extras]}" </dev/null ||
        fail "pip install" "it needs PyPI or a mirror of it: set PIP_INDEX_URL (and PIP_CERT) as your site does, then run this again"
    printf '%s\n' "$want $extras" >"$VENV/stamp"
}

make_users() {
    local user
    for user in crisp crisp-image crisp-stream; do
        if ! getent passwd "$user" >/dev/null; then
            useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin "$user" ||
                fail "cannot create the system user $user" "make it by hand: useradd --system --user-group $user"
            note "created $user"
        fi
    done
}

# The configuration that deploy/up writes: ours, with the handlers' paths where they are not Debian's.
render_config() {
    cat "$CHECKOUT/deploy/crisp.yaml"
    local runc crun
    runc=$(command -v runc) crun=$(command -v crun)
    if [ "$runc" != /usr/sbin/runc ] || [ "$crun" != /usr/bin/crun ]; then
        printf '\nruntime:\n  handlers:\n    runc: {path: %s}\n    crun: {path: %s}\n' "$runc" "$crun"
    fi
}

has_systemd() { [ -d /run/systemd/system ] && command -v systemctl >/dev/null; }

# crisp.service with the paths of this checkout.
render_unit() {
    sed "s#/usr/bin/crisp#$VENV/bin/crisp#" "$CHECKOUT/deploy/systemd/crisp.service"
}

show_log() {
    if has_systemd; then journalctl --no-pager --unit crisp --lines 20 >&2 || true; else tail -n 20 "$LOG" >&2; fi
}

# Whether a process runs; one that has ended and waits for its parent to notice does not.
alive() { readlink "/proc/$1/exe" >/dev/null 2>&1; }

# Every process of the machine's own daemon: named crisp-..., and in its roster, or with its log as stderr, or in its
# service's cgroup.
# Daemons with another configuration are left alone; so are conmons and containers.
crisp_pids() {
    local dir pid roster
    roster=$(grep -oE '"pid": *[0-9]+' /run/crisp/workers.json 2>/dev/null | grep -oE '[0-9]+' | tr '\n' ' ' || true)
    for dir in /proc/[0-9]*; do
        pid=${dir#/proc/}
        alive "$pid" || continue
        if [[ $(cat "$dir/comm" 2>/dev/null) == crisp-* ]]; then
            if [[ " $roster" == *" $pid "* || $(readlink "$dir/fd/2" 2>/dev/null) == "$LOG"* || $(cat "$dir/cgroup" 2>/dev/null) == */crisp.service* ]]; then
                printf '%s\n' "$pid"
            fi
        elif [ "$pid" = "$(cat "$PID_FILE" 2>/dev/null)" ] && tr '\0' ' ' <"$dir/cmdline" 2>/dev/null | grep -E 'crisp.* daemon' >/dev/null; then
            printf '%s\n' "$pid" # just started, and not yet named
        fi
    done
}

crisp_cli() { timeout 60 "$VENV/bin/crisp" "$@" </dev/null; }

serving() { [ -S /run/crisp/crisp.sock ] && crisp_cli status >/dev/null 2>&1; }
