# Steps that deploy/up, deploy/down and deploy/test share. Sourced, never run: the caller has set -euo pipefail.
# shellcheck shell=bash disable=SC2034 # the names are for the scripts that source this

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME="${HOME:-/root}"
# No user can answer: debconf, needrestart, apt-listchanges, apt-listbugs and ucf ask nothing and keep existing files.
export DEBIAN_FRONTEND=noninteractive DEBIAN_PRIORITY=critical NEEDRESTART_SUSPEND=1 UCF_FORCE_CONFFOLD=1
export APT_LISTCHANGES_FRONTEND=none APT_LISTBUGS_FRONTEND=none
unset PYTHONHOME PYTHONPATH # of another Python
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
LOCK_FILE=/run/lock/crisp-deploy.lock
# The files that deploy/up wrote, in the format of sha256sum: a file that matches its line is crisp's and unchanged.
WRITTEN=/var/lib/crisp-deploy.sha256
POLICY_RC=/usr/sbin/policy-rc.d
DPKG_UPDATES=/var/lib/dpkg/updates

# A configuration file that a package brings and that is here already stays as it is: the package's own copy then lies
# beside it, named .dpkg-dist. Otherwise dpkg would ask, and fail because it gets no answer.
DPKG_OPTIONS=(--force-confdef --force-confold)
APT_OPTIONS=(-qq -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold)
LOCK_LIMIT=300 # seconds to wait for another program that installs packages

# The Debian packages that crisp needs, each with a probe that succeeds if its programs are here already, from
# any package: a machine with another vendor's runc keeps it.
RUN_PACKAGES=(
    "runc=command:runc" "crun=command:crun" "conmon=command:conmon" "catatonit=command:catatonit"
    "containernetworking-plugins=cni:bridge" "nftables=command:nft" "iptables=command:iptables"
    "busybox=command:busybox" "iproute2=command:ip" "procps=command:pgrep" "util-linux=command:setsid"
    "libarchive13=library:libarchive.so.13" "libseccomp2=library:libseccomp.so.2"
    "python3=command:python3" "python3-venv=venv:" "ca-certificates=file:/etc/ssl/certs/ca-certificates.crt"
)

step() { printf '==> %s\n' "$*"; }
note() { printf '    %s\n' "$*"; }

# fail WHAT HINT: print what failed and what to do about it, and exit.
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

# One run of these scripts at a time. A program that is started in the background must close descriptor 9.
lock_deploy() {
    mkdir -p "$(dirname "$LOCK_FILE")"
    exec 9>"$LOCK_FILE"
    flock -w 600 9 || fail "another deploy script has been running for ten minutes" "see what it does: fuser -v $LOCK_FILE"
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

# install_packages PACKAGE=PROBE...: install those whose probe fails; no apt-get if none is missing.
install_packages() {
    local item name missing=() names=() updated=1 result=0
    mend_packages
    for item in "$@"; do
        is_here "${item#*=}" || missing+=("${item%%=*}")
    done
    if [ ${#missing[@]} = 0 ]; then
        note "all there"
        return
    fi
    command -v apt-get >/dev/null || fail "apt-get is missing, and so are: ${missing[*]}" "install them by hand"
    note "installing ${missing[*]}"
    unlocked apt-get update "${APT_OPTIONS[@]}" || updated=
    [ -n "$updated" ] || note "apt-get update failed; going on with the package lists that are here"
    for name in "${missing[@]}"; do
        # Debian 13 and later renamed a few libraries; the newer name is taken if it exists.
        if apt-cache show "${name}t64" >/dev/null 2>&1; then name+=t64; fi
        names+=("$name")
    done
    hold_services
    unlocked apt-get install -y --no-install-recommends "${APT_OPTIONS[@]}" "${names[@]}" || result=$?
    release_services
    if [ $result != 0 ]; then
        [ -n "$updated" ] || fail "apt-get update, and then apt-get install ${names[*]}" "see whether the network works and whether apt's sources are the ones that your site needs; then run this again"
        fail "apt-get install ${names[*]}" "read what apt says above; often the network or a held package; then run this again"
    fi
    for item in "$@"; do
        is_here "${item#*=}" || fail "package ${item%%=*} is installed and does not give ${item#*=}" "look at: dpkg -L ${item%%=*}"
    done
}

# Finish an installation that was interrupted, by these scripts or another program: until then apt-get installs nothing.
mend_packages() {
    packages_are_broken || return 0
    note "finishing an installation of packages that was interrupted"
    hold_services
    # A package that was not wholly unpacked cannot be configured: apt-get fetches it again.
    if ! unlocked dpkg --configure -a "${DPKG_OPTIONS[@]}" || packages_are_broken; then
        unlocked apt-get install -y --fix-broken --no-install-recommends "${APT_OPTIONS[@]}" ||
            note "some packages are still half installed; going on: see dpkg --audit"
    fi
    release_services
}

packages_are_broken() {
    command -v dpkg >/dev/null || return 1
    [ -n "$(dpkg --audit 2>/dev/null)" ] || compgen -G "$DPKG_UPDATES/[0-9]*" >/dev/null
}

# unlocked COMMAND...: run it without input; repeat it while another program, such as a daily upgrade, has apt's locks.
unlocked() {
    local end=$((SECONDS + LOCK_LIMIT)) noted='' result errors
    errors=$(mktemp)
    while true; do
        result=0
        "$@" </dev/null 2>"$errors" || result=$?
        if [ $result = 0 ] || [ $SECONDS -ge $end ] || ! grep -qiE 'could not get lock|unable to (acquire|lock)|lock (was|is) locked' "$errors"; then break; fi
        [ -n "$noted" ] || note "waiting for another program that installs packages"
        noted=1
        sleep 1
    done
    cat "$errors" >&2
    rm -f "$errors"
    return $result
}

# No service of the packages is to start by itself, so a policy forbids it while they are installed: as long as the lock
# of these scripts is held, which apt-get inherits. The policy that a killed run leaves behind forbids nothing.
hold_services() {
    if [ -e "$POLICY_RC" ] && ! grep -qF "$LOCK_FILE" "$POLICY_RC"; then return; fi # the administrator's own
    cat >"$POLICY_RC.crisp" <<EOF
#!/bin/sh
# Written by crisp's deploy scripts while they install packages. Without them it forbids nothing and can be removed.
exec flock --nonblock --conflict-exit-code 101 $LOCK_FILE true
EOF
    chmod 755 "$POLICY_RC.crisp"
    mv "$POLICY_RC.crisp" "$POLICY_RC"
}

release_services() {
    if grep -qsF "$LOCK_FILE" "$POLICY_RC"; then rm -f "$POLICY_RC"; fi
}

# The Python to use: Debian's own if it is new enough, else the newest of 3.11 and later.
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

# make_venv EXTRAS: .venv with crisp and its dependencies as the lock says; nothing to do if its stamp matches.
make_venv() {
    local extras=$1 python want have=
    python=$(find_python) || fail "no python3 of version 3.11 or later is here" "on Debian 12: apt-get install python3 python3-venv"
    want="$("$python" -V) $(cat "$CHECKOUT/pyproject.toml" "$LOCK" | sha256sum | cut -d' ' -f1)"
    if [ -x "$VENV/bin/python" ] && "$VENV/bin/python" -c 'import kernel.config.reading' 2>/dev/null; then
        have=$(cat "$VENV/stamp" 2>/dev/null || true)
    fi
    # An environment with the tests' packages has crisp's own too.
    if [ "$have" = "$want $extras" ] || { [ -z "$extras" ] && [ "$have" = "$want test" ]; }; then
        note "up to date"
        return
    fi
    rm -f "$VENV/stamp"
    # A half-made environment of a killed run may look complete to pip: it is made again from the beginning.
    if [ -e "$VENV/unfinished" ] || ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
        { "$python" -m venv --clear --without-pip "$VENV" && touch "$VENV/unfinished" &&
            "$VENV/bin/python" -m ensurepip --upgrade --default-pip >/dev/null; } ||
            fail "cannot make $VENV with $python" "apt-get install python3-venv, or see whether the disk is full"
    fi
    touch "$VENV/unfinished"
    PIP_USER=0 "$VENV/bin/python" -m pip install -q --disable-pip-version-check --no-input -c "$LOCK" -e "$CHECKOUT${extras:+[$extras]}" </dev/null || {
        rm "$VENV/unfinished" # pip undoes what it could not end
        fail "pip install" "it needs PyPI or a mirror of it: run this again with your site's settings, as in: sudo PIP_INDEX_URL=URL PIP_CERT=FILE $0"
    }
    printf '%s\n' "$want $extras" >"$VENV/stamp"
    rm "$VENV/unfinished"
}

# put_file TARGET: write standard input to it, whole or not at all, and record that deploy/up wrote it.
put_file() {
    local target=$1 new
    mkdir -p "$(dirname "$target")"
    new=$(dirname "$target")/.crisp-deploy.new # hidden: no program takes it for a configuration
    cat >"$new"
    {
        grep -svF "  $target" "$WRITTEN" || true
        sha256sum <"$new" | sed "s#-\$#$target#"
    } >"$WRITTEN.new"
    mv "$WRITTEN.new" "$WRITTEN"
    mv "$new" "$target"
    note "wrote $target"
}

# is_ours TARGET: whether deploy/up wrote it and it was not changed since.
is_ours() {
    [ -f "$1" ] && [ ! -L "$1" ] && grep -sF "  $1" "$WRITTEN" | sha256sum --status --check 2>/dev/null
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

# The configuration that deploy/up writes: deploy/crisp.yaml, with the handlers' paths if they are not Debian's.
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

# Whether a process runs; one that has ended and is not reaped does not.
alive() { readlink "/proc/$1/exe" >/dev/null 2>&1; }

# Every process of the machine's own daemon: named crisp-..., and in its roster, or with its log as stderr, or in its
# service's cgroup.
# Daemons with another configuration are left alone; so are conmons and containers, and daemons in containers, whose log
# has the same path as ours.
crisp_pids() {
    local dir pid roster here
    here=$(readlink /proc/self/ns/pid)
    roster=$(grep -oE '"pid": *[0-9]+' /run/crisp/workers.json 2>/dev/null | grep -oE '[0-9]+' | tr '\n' ' ' || true)
    for dir in /proc/[0-9]*; do
        pid=${dir#/proc/}
        { alive "$pid" && [ "$(readlink "$dir/ns/pid")" = "$here" ]; } || continue
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
