# tests/support/databases.sh - database servers of a script's own. Source it after tap.sh and umbra.sh
# (for u_user). Each runs as DB_USER: an ordinary user where the tests run as root, since PostgreSQL wants
# that, otherwise ourselves. Directories below $T_TMP; sockets in the server's own directory SOCK.
#
#	db_setup             DB_USER, DB_RUN (prefix for commands as that user)
#	db_dir DIR           makes it, the server's user may write there
#
#	pg_setup             t_skip_all unless PostgreSQL's programs are here: PG_BIN
#	pg_init DATA         a new cluster, anybody who reaches its socket is let in as postgres
#	pg_start DATA SOCK [PORT]   pg_stop DATA      pg_sql SOCK SQL [PORT]
#
#	my_setup; my_init DATA; my_start DATA SOCK [ARG...]; my_stop SOCK; my_sql SOCK SQL
#
#	redis_setup; redis_start DIR SOCK ARG...; redis_stop SOCK; redis_cmd SOCK CMD...

db_setup() {
	DB_RUN=()
	DB_USER=$(id -un)
	if [ "$(id -u)" -eq 0 ]; then
		u_user || t_skip_all "no ordinary user is known to run the server as"
		DB_USER=$U_USER
		DB_RUN=(setpriv "--reuid=$U_UID" "--regid=$U_GID" --clear-groups env "HOME=$U_HOME"
			"USER=$U_USER" "TMPDIR=$U_HOME/tmp")
	fi
	chmod 0755 "$T_TMP"
}

db_dir() {
	mkdir -p "$1"
	[ "$(id -u)" -ne 0 ] || chown "$U_UID:$U_GID" "$1"
	chmod 0700 "$1"
}

# Run as the server's user, without our descriptors.
db_run() {
	(cd "$T_TMP" && "${DB_RUN[@]}" "$@" 3>&- 8>&- 9<&- </dev/null)
}

pg_setup() {
	local d

	db_setup
	for d in "$(dirname "$(command -v postgres || echo /nowhere/x)")" /usr/lib/postgresql/*/bin; do
		[ -x "$d/initdb" ] && [ -x "$d/postgres" ] && [ -x "$d/pg_amcheck" ] && PG_BIN=$d
	done
	[ -n "${PG_BIN-}" ] || t_skip_all "PostgreSQL's server is not installed"
	t_need psql pgbench
}

pg_init() {
	db_dir "$1"
	db_run "$PG_BIN/initdb" -D "$1" -U postgres -A trust -E UTF8 --locale=C -N >"$T_TMP/initdb.log" 2>&1 ||
		{ cat "$T_TMP/initdb.log"; return 1; }
	cat >>"$1/postgresql.conf" <<-END
		listen_addresses = ''
		shared_buffers = 16MB
		max_connections = 20
		wal_level = minimal
		max_wal_senders = 0
		autovacuum_naptime = 1s
	END
}

pg_start() {
	[ -d "$2" ] || db_dir "$2"
	db_run "$PG_BIN/pg_ctl" -D "$1" -l "$1/server.log" -o "-k $2 -p ${3:-5432}" -w -t 240 start >"$T_TMP/pg_ctl.log" 2>&1 ||
		{ cat "$T_TMP/pg_ctl.log" "$1/server.log"; return 1; }
	t_cleanup pg_stop "$1"
}

pg_stop() {
	[ ! -e "$1/postmaster.pid" ] ||
		db_run "$PG_BIN/pg_ctl" -D "$1" -m immediate -w -t 120 stop >/dev/null 2>&1
}

pg_sql() {
	psql -X -q -A -t -v ON_ERROR_STOP=1 -h "$1" -p "${3:-5432}" -U postgres -d postgres -c "$2" 2>&1
}

my_setup() {
	db_setup
	t_need mariadbd mariadb-install-db mariadb mariadb-check
}

my_init() {
	db_dir "$1"
	db_run mariadb-install-db --no-defaults --datadir="$1" --auth-root-authentication-method=normal \
		--skip-test-db --innodb-log-file-size=8M >"$T_TMP/install-db.log" 2>&1 ||
		{ tail -n 30 "$T_TMP/install-db.log"; return 1; }
}

# The process is in MY_PID.
my_start() {
	local data=$1 sock=$2

	shift 2
	[ -d "$sock" ] || db_dir "$sock"
	db_run mariadbd --no-defaults --datadir="$data" --socket="$sock/my.sock" --pid-file="$sock/my.pid" \
		--skip-networking --innodb-log-file-size=8M --innodb-buffer-pool-size=16M "$@" \
		>>"$sock/my.log" 2>&1 &
	t_cleanup my_stop "$sock"
	t_wait_for 60 my_sql "$sock" "select 1" >/dev/null || { tail -n 30 "$sock/my.log"; return 1; }
}

my_sql() {
	mariadb --no-defaults -N -B -u root -S "$1/my.sock" -e "$2" 2>&1
}

db_gone_() {
	! kill -0 "$1" 2>/dev/null
}

my_stop() {
	local pid

	pid=$(cat "$1/my.pid" 2>/dev/null) || return 0
	kill -KILL "$pid" 2>/dev/null
	rm -f "$1/my.pid"
	t_wait_for 20 db_gone_ "$pid"
}

redis_setup() {
	db_setup
	REDIS=$(command -v redis-server || command -v valkey-server) ||
		t_skip_all "neither Redis nor Valkey is installed"
	REDIS_CLI=$(command -v redis-cli || command -v valkey-cli) || t_skip_all "redis-cli is not installed"
}

redis_start() {
	local dir=$1 sock=$2

	shift 2
	[ -d "$sock" ] || db_dir "$sock"
	db_run "$REDIS" --dir "$dir" --port 0 --unixsocket "$sock/redis.sock" --unixsocketperm 777 \
		--pidfile "$sock/redis.pid" --daemonize yes --logfile "$sock/redis.log" "$@" >/dev/null || return
	t_cleanup redis_stop "$sock"
	t_wait_for 30 redis_answers_ "$sock" || { tail -n 30 "$sock/redis.log"; return 1; }
}

redis_answers_() {
	[ "$(redis_cmd "$1" ping)" = PONG ]
}

redis_cmd() {
	local sock=$1

	shift
	"$REDIS_CLI" -s "$sock/redis.sock" "$@" 2>&1
}

redis_stop() {
	local pid

	pid=$(cat "$1/redis.pid" 2>/dev/null) || return 0
	kill -KILL "$pid" 2>/dev/null
	rm -f "$1/redis.pid"
	t_wait_for 20 db_gone_ "$pid"
}

# ---- with a coordinator of our own (umbra.sh)
#
#	u_writer KIND ARG...   starts `umbra writer`, waits until it is registered: U_WRITER_PID
#	u_writer_stop
#	writer_said LABEL DIR  "STATE ERROR frozen" of each writer in that snapshot's set, one per line
#	copy_tree FROM TO      as the server's user may read it

u_writer() {
	: >"$T_TMP/writer.log"
	umbra writer "$@" >"$T_TMP/writer.log" 2>&1 3>&- </dev/null &
	U_WRITER_PID=$!
	U_PIDS="${U_PIDS-} $!"
	t_wait_for 30 grep -q 'registered as' "$T_TMP/writer.log" || { cat "$T_TMP/writer.log"; return 1; }
}

u_writer_stop() {
	kill "$U_WRITER_PID" && wait "$U_WRITER_PID"
}

writer_said() {
	umbra show --json "$1" --for "$2" | u_json "'\n'.join('%s %s%s' % (w['state'], w.get('error') or 'fine',
		'' if w.get('frozen_ms') is None else ' frozen') for w in j['snapshot']['writers'])"
}

snapshot_of() {
	umbra list --json "$1" | u_json "next(s['path'] for s in j['snapshots'] if s['label'] == '$2')"
}

copy_tree() {
	rm -rf "$2" && cp -a "$1" "$2"
}
