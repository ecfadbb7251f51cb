# bash completion for umbra

_umbra_words() {
	local IFS=$'\n'
	# Escaped, since DIRs and labels may hold blanks.
	mapfile -t COMPREPLY < <(compgen -W "$(printf '%q\n' $1)" -- "$cur")
}

_umbra_snapshots() {
	_umbra_words "$(umbra list --names 2>/dev/null; echo latest)"
}

_umbra_dirs() {
	local IFS=$'\n'
	_umbra_words "$(umbra list --dirs 2>/dev/null)"
	compopt -o filenames
	mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -d -- "$cur")
}

# cur and prev are those of _umbra
_umbra_writer() {
	local kind=${COMP_WORDS[2]} options i
	local kinds='hook exec cgroup systemd container mariadb postgresql redis sqlite'

	if [ "$COMP_CWORD" -eq 2 ]; then
		mapfile -t COMPREPLY < <(compgen -W "$kinds --help" -- "$cur")
		return
	fi
	if [ "$kind" = exec ]; then
		for ((i = 3; i < COMP_CWORD; i++)); do
			if [ "${COMP_WORDS[i]}" = -- ]; then
				_command_offset $((i + 1)) 2>/dev/null
				return
			fi
		done
	fi
	case $prev in
	--level)
		mapfile -t COMPREPLY < <(compgen -W 'front-end back-end system' -- "$cur")
		return
		;;
	--state)
		compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -d -- "$cur")
		return
		;;
	--socket)
		compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		return
		;;
	--engine)
		mapfile -t COMPREPLY < <(compgen -W 'podman docker' -- "$cur")
		return
		;;
	--name | --instance | --class | --window | --limit | --ready)
		return
		;;
	esac
	options='--name --instance --class --level --window --limit --state --socket --quiet --verbose --help'
	case $kind in
	exec) options="$options --early --ready --" ;;
	systemd) options="$options --user" ;;
	container) options="$options --engine" ;;
	esac
	if [[ $cur == -* ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur")
		return
	fi
	case $kind in
	hook | cgroup)
		compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -d -- "$cur")
		;;
	systemd)
		_umbra_words "$(systemctl list-units --plain --no-legend 2>/dev/null | cut -d ' ' -f 1)"
		;;
	container)
		_umbra_words "$(podman ps --format '{{.Names}}' 2>/dev/null ||
			docker ps --format '{{.Names}}' 2>/dev/null)"
		;;
	esac
}

_umbra() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} cmd=${COMP_WORDS[1]}
	local common='--help --json --quiet --verbose' options='' i
	local contexts='client-accessible-writers client-accessible app-rollback nas-rollback'

	COMPREPLY=()
	if [ "$COMP_CWORD" -eq 1 ]; then
		mapfile -t COMPREPLY < <(compgen -W "protect unprotect create list show delete mount \
			umount expose unexpose backup diff versions restore revert shell status writer writers --help --version" -- "$cur")
		return
	fi
	if [ "$cmd" = writer ]; then
		_umbra_writer
		return
	fi
	if [ "$cmd" = backup ]; then
		for ((i = 2; i < COMP_CWORD; i++)); do
			if [ "${COMP_WORDS[i]}" = -- ]; then
				_command_offset $((i + 1)) 2>/dev/null
				return
			fi
		done
	fi
	case $prev in
	--store | --to)
		compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -d -- "$cur")
		return
		;;
	--for)
		_umbra_dirs
		return
		;;
	--content)
		compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		return
		;;
	--snapshots)
		mapfile -t COMPREPLY < <(compgen -W 'hidden visible off' -- "$cur")
		return
		;;
	--context)
		[ "$cmd" = backup ] && contexts="backup file-share-backup app-rollback nas-rollback"
		mapfile -t COMPREPLY < <(compgen -W "$contexts" -- "$cur")
		return
		;;
	-s | --script)
		compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		return
		;;
	--label | --description | --subdir | --autoretry | --max-store | --older-than)
		return
		;;
	esac
	case $cmd in
	protect) options='--store --max-store --snapshots --allow-other --foreground' ;;
	unprotect | umount) options='--force' ;;
	create) options='--context --label --description --no-writers --require-writers --include --exclude
		--skip-if-empty --autoretry' ;;
	list) options='--names --dirs' ;;
	show | mount) options='--for' ;;
	expose) options='--for --subdir' ;;
	unexpose) options='--for --force' ;;
	delete) options='--for --oldest --all --older-than --yes --dry-run --force' ;;
	backup) options='--at-original-path --in-place --context --require-writers --include --exclude --' ;;
	diff) options='--stat --null --content --for' ;;
	restore) options='--to --dry-run --for' ;;
	revert) options='--for --yes --dry-run --force' ;;
	shell) options='--script' ;;
	status) options='--watch' ;;
	esac
	if [[ $cur == -* ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$options $common" -- "$cur")
		return
	fi
	case $cmd in
	show | delete | diff | revert) _umbra_snapshots ;;
	mount | expose | restore)
		if [ "$COMP_CWORD" -eq 2 ]; then
			_umbra_snapshots
		else
			compopt -o filenames
			mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		fi
		;;
	versions)
		compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		;;
	protect | umount | unexpose)
		compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -d -- "$cur")
		;;
	unprotect | create | list | backup) _umbra_dirs ;;
	esac
}

complete -F _umbra umbra
