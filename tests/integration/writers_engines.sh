#!/bin/bash
# umbra writer container and systemd with the real podman and the real systemd (protocol L-3, L-4): what
# they freeze stands still. What fails is tested in writers_cli.sh.
source "${UMBRA_SOURCE:-$(dirname "$0")/../..}/tests/support/tap.sh"

# crun and podman want cgroups of version 2 alone, which not every machine has: in a mount namespace
# of our own all see them.
if [ "$(id -u)" -eq 0 ] && [ -z "${IN_NAMESPACE-}" ] && [ "$(stat -f -c %T /sys/fs/cgroup)" != cgroup2fs ] &&
	unshare -m true 2>/dev/null; then
	rm -f "$t_out_"
	IN_NAMESPACE=1 exec unshare -m --propagation private bash "$0" "$@"
fi
source "$UMBRA_SOURCE/tests/support/writers.sh"

w_setup
[ "$(id -u)" -eq 0 ] || t_skip_all "needs root"
if [ -n "${IN_NAMESPACE-}" ]; then
	umount -R /sys/fs/cgroup 2>/dev/null
	mount -t cgroup2 umbra-test /sys/fs/cgroup 2>/dev/null ||
		t_skip_all "cgroups of version 2 cannot be mounted here"
fi

# Whether the load goes on: its file grows.
grows() {
	local before

	before=$(stat -c %s "$T_TMP/out/load")
	t_wait_for 10 eval "[ \"\$(stat -c %s '$T_TMP/out/load')\" -gt $before ]"
}

mkdir "$T_TMP/out"
w_fake

# same KIND NAME ARG...: what holds for both
same() {
	local kind=$1 size

	shift
	t_ok "$kind: registers" w_start "$kind" "$@"
	t_ok "$kind: runs" grows
	w_event prepare-backup >/dev/null
	t_is "$kind: L-3: Freeze" "$(w_event prepare-for-snapshot; w_event freeze)" "ok
ok"
	size=$(stat -c %s "$T_TMP/out/load")
	sync # some time for whoever still runs
	t_is "$kind: nothing is written until Thaw" "$(stat -c %s "$T_TMP/out/load")" "$size"
	t_is "$kind: Thaw" "$(w_event thaw)" ok
	t_ok "$kind: and it goes on" grows
	w_event prepare-for-snapshot >/dev/null
	w_event freeze >/dev/null
	w_kill
	size=$(stat -c %s "$T_TMP/out/load")
	t_ok "$kind: L-4: a leftover" w_start "$kind" "$@"
	t_ok "$kind: L-4: is thawed at the start" grows
	w_event prepare-for-snapshot >/dev/null
	w_event freeze >/dev/null
	t_ok "$kind: SIGTERM" w_stop
	t_ok "$kind: thaws" grows
}

# ---- podman

PODMAN=$T_TMP/podman
engine() {
	printf '#!/bin/sh\nexec podman --root "%s" --runroot "%s" --tmpdir "%s" --storage-driver vfs --cgroup-manager cgroupfs "$@"\n' \
		"$T_TMP/p/root" "$T_TMP/p/run" "$T_TMP/p/tmp" >"$PODMAN"
	chmod 0755 "$PODMAN"
}

CG=/umbra-test-$$
podman_clean() {
	timeout 60 "$PODMAN" rm -f -t 0 umbra-test >/dev/null 2>&1
	find "/sys/fs/cgroup$CG" -depth -type d -exec rmdir {} \; 2>/dev/null
	return 0
}

# Made of nothing but busybox: no registry is asked.
podman_start() {
	mkdir -p "$T_TMP/image/bin" "$T_TMP/image/out" && cp "$(command -v busybox)" "$T_TMP/image/bin/busybox" &&
		tar -C "$T_TMP/image" -c . | "$PODMAN" import - umbra-test &&
		timeout 60 "$PODMAN" run -d --privileged --pids-limit -1 --cgroup-parent "$CG" \
			--ulimit nofile="$(ulimit -n):$(ulimit -n)" --ulimit nproc=100:100 --network none \
			-v "$T_TMP/out:/out" --name umbra-test umbra-test \
			/bin/busybox sh -c 'while :; do echo x; done >/out/load'
}

if ! command -v podman >/dev/null || ! command -v busybox >/dev/null; then
	t_skip "container" "podman or busybox is not installed"
elif ldd "$(command -v busybox)" >/dev/null 2>&1; then
	t_skip "container" "busybox is not linked statically (busybox-static)"
else
	engine
	t_cleanup podman_clean
	if podman_start >"$T_TMP/podman.out" 2>&1; then
		t_wait_for 30 test -s "$T_TMP/out/load"
		same container --engine "$PODMAN" umbra-test
	else
		t_skip "container" "podman cannot run one here: $(tail -n 1 "$T_TMP/podman.out")"
	fi
	podman_clean
fi

# ---- systemd

unit_clean() {
	systemctl stop umbra-test.service
}

if [ ! -d /run/systemd/system ]; then
	t_skip "systemd" "it does not run here"
else
	rm -f "$T_TMP/out/load"
	if systemd-run --quiet --unit umbra-test.service sh -c 'while :; do echo x; done >"$0"' "$T_TMP/out/load" \
		>"$T_TMP/systemd.out" 2>&1; then
		t_cleanup unit_clean
		t_wait_for 30 test -s "$T_TMP/out/load"
		same systemd umbra-test.service
	else
		t_skip "systemd" "cannot start a unit: $(tail -n 1 "$T_TMP/systemd.out")"
	fi
fi
t_ok "no sanitizer had anything to report" w_no_reports
t_done
