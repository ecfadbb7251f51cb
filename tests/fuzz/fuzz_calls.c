/* Requesters, providers and writers that say whatever they like: peer.c and all calls of the coordinator,
 * over socket pairs and with a clock of ours. Nothing of what they do may be left when all have gone.
 * Input: lines. "0" to "3" and a message: that peer sends it. "t" and a number: so many milliseconds pass.
 * "x" and a digit: that peer's connection ends. In a message $NAME is what the coordinator last told anybody
 * as NAME: $operation_id, $instance_id, $snapshot_id, $set_id, $session_id, $serial. With FUZZ_TALK=1
 * in the environment it prints what the coordinator says: for those who write inputs. */
#include "coordinator/client/wire.h"
#include "coordinator/peer.h"
#include "coordinator/server.h"
#include "cow/base/log.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(what)                                                                                 \
	do {                                                                                       \
		if (!(what)) {                                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what);                 \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

#define PEERS 4
#define LINES_MAX 200
#define VALUE_SIZE 64

static const char *const names[] = { "operation_id", "instance_id", "snapshot_id",
				     "set_id",	     "session_id",  "serial" };
#define NAMES (sizeof(names) / sizeof(*names))

struct field {
	struct coord_server srv;
	uint64_t now_ns;
	bool kicked;
	int sock[PEERS]; /* our end; -1: not connected */
	struct umbra_wire *heard[PEERS];
	char value[NAMES][VALUE_SIZE];
};

static struct field *field;

/* loop.c has the real one. */
void coord_server_kick(struct coord_server *srv)
{
	(void)srv;
	field->kicked = true;
}

static uint64_t now(void *data)
{
	return ((struct field *)data)->now_ns;
}

static int64_t real(void *data)
{
	return (int64_t)((struct field *)data)->now_ns;
}

/* ---- what the coordinator says ---- */

static void remember(struct field *x, const json_t *value)
{
	const json_t *member;
	const char *key;
	size_t i;

	json_object_foreach((json_t *)value, key, member) {
		for (i = 0; i < NAMES; i++) {
			if (strcmp(names[i], key) != 0)
				continue;
			if (json_is_string(member))
				snprintf(x->value[i], VALUE_SIZE, "%s", json_string_value(member));
			else if (json_is_integer(member))
				snprintf(x->value[i], VALUE_SIZE, "%lld",
					 (long long)json_integer_value(member));
		}
		remember(x, member);
	}
	json_array_foreach((json_t *)value, i, member)
		remember(x, member);
}

static void print_message(unsigned i, const json_t *message)
{
	fprintf(stderr, "%u ", i);
	json_dumpf(message, stderr, JSON_COMPACT);
	fputc('\n', stderr);
}

static void hear(struct field *x, unsigned i)
{
	bool talks = getenv("FUZZ_TALK");
	char buf[65536];
	ssize_t n;
	json_t *message;
	int r;

	while (x->sock[i] >= 0 && (n = recv(x->sock[i], buf, sizeof(buf), MSG_DONTWAIT)) > 0) {
		MUST(umbra_wire_feed(x->heard[i], buf, (size_t)n, NULL, 0) == 0);
		while ((r = umbra_wire_next(x->heard[i], &message, NULL)) == 1) {
			remember(x, message);
			if (talks)
				print_message(i, message);
			json_decref(message);
		}
		MUST(r == 0); /* whatever they say, the answers are messages */
	}
}

/* Until nothing moves any more. */
static void settle(struct field *x)
{
	for (int i = 0; i < 8; i++) {
		x->kicked = false;
		ev_run(x->srv.loop, EVRUN_NOWAIT);
		coord_timers_run(&x->srv.core.timers);
		coord_peers_run(&x->srv);
		for (unsigned k = 0; k < PEERS; k++)
			hear(x, k);
		if (!x->kicked && i > 0)
			return;
	}
}

/* ---- what the others do ---- */

static bool connect_peer(struct field *x, unsigned i)
{
	int pair[2];

	if (x->sock[i] >= 0)
		return true;
	MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
	x->sock[i] = pair[0];
	x->heard[i] = umbra_wire_new(UMBRA_WIRE_MAX_REPLY);
	MUST(x->heard[i]);
	return coord_peer_new(&x->srv, pair[1]) == 0;
}

static void disconnect(struct field *x, unsigned i)
{
	if (x->sock[i] < 0)
		return;
	close(x->sock[i]);
	umbra_wire_free(x->heard[i]);
	x->sock[i] = -1;
	x->heard[i] = NULL;
}

/* `out` has room for each byte of the line becoming a value. */
static size_t substitute(const struct field *x, const char *line, size_t len, char *out)
{
	char *to = out;

	for (size_t at = 0; at < len;) {
		size_t i = NAMES;

		if (line[at] == '$')
			for (i = 0; i < NAMES; i++)
				if (len - at - 1 >= strlen(names[i]) &&
				    memcmp(line + at + 1, names[i], strlen(names[i])) == 0)
					break;
		if (line[at] == '$' && i < NAMES) {
			to = stpcpy(to, x->value[i]);
			at += 1 + strlen(names[i]);
		} else {
			*to++ = line[at++];
		}
	}
	*to++ = 0;
	return (size_t)(to - out);
}

static void say(struct field *x, unsigned i, const char *line, size_t len)
{
	char *text = malloc(len * VALUE_SIZE + 1);
	size_t n = substitute(x, line, len, text);

	/* A peer that was hung up on is told so by EPIPE; one that sends too much waits. */
	if (connect_peer(x, i) && send(x->sock[i], text, n, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		disconnect(x, i);
	free(text);
}

static void wait_ms(struct field *x, uint64_t ms)
{
	uint64_t end = x->now_ns + ms * 1000000;

	for (int i = 0; i < 100 && x->now_ns < end; i++) {
		uint64_t next = coord_timers_next(&x->srv.core.timers);

		x->now_ns = next < end - x->now_ns ? x->now_ns + next : end;
		settle(x);
	}
}

static void act(struct field *x, const char *line, size_t len)
{
	char number[16] = "";

	if (len == 0)
		return;
	if (line[0] >= '0' && line[0] < '0' + PEERS) {
		say(x, (unsigned)(line[0] - '0'), line + 1, len - 1);
	} else if (line[0] == 't') {
		memcpy(number, line + 1, len - 1 < 7 ? len - 1 : 7);
		wait_ms(x, strtoul(number, NULL, 10));
	} else if (line[0] == 'x' && len > 1 && line[1] >= '0' && line[1] < '0' + PEERS) {
		disconnect(x, (unsigned)(line[1] - '0'));
	}
	settle(x);
}

/* ---- the whole ---- */

static void begin(struct field *x)
{
	static struct ev_loop *loop;

	*x = (struct field){ .now_ns = (uint64_t)1000000000 * 1000000000 };
	log_set_level(LOG_LEVEL_ERROR);
	if (!loop)
		loop = ev_loop_new(EVBACKEND_SELECT | EVFLAG_NOENV);
	MUST(loop);
	x->srv.loop = loop;
	x->srv.opt.socket_path = "/nowhere";
	x->srv.opt.group = (gid_t)-1;
	coord_core_init(&x->srv.core);
	coord_timers_init(&x->srv.core.timers, now, x);
	x->srv.core.real_ns = real;
	x->srv.core.real_clock = x;
	x->srv.core.on_news = coord_peers_news;
	x->srv.core.on_news_data = &x->srv;
	TAILQ_INIT(&x->srv.peers);
	for (unsigned i = 0; i < PEERS; i++)
		x->sock[i] = -1;
	field = x;
}

static void end(struct field *x)
{
	struct coord *core = &x->srv.core;

	for (unsigned i = 0; i < PEERS; i++)
		disconnect(x, i);
	settle(x);
	for (int i = 0; i < 20 && !(TAILQ_EMPTY(&x->srv.peers) && TAILQ_EMPTY(&core->sessions));
	     i++)
		wait_ms(x, 700000); /* the longest limit there is (T-6, T-8) */
	MUST(TAILQ_EMPTY(&x->srv.peers) && x->srv.npeers == 0);
	MUST(TAILQ_EMPTY(&core->sessions)); /* D-8 */
	MUST(!core->slot);		    /* S-9 */
	MUST(core->holds == 0 && core->held == 0);
	MUST(TAILQ_EMPTY(&core->writers.list));
	MUST(coord_core_idle(core));
	MUST(TAILQ_EMPTY(&core->timers.queue));
	coord_core_done(core);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct field x;
	const char *at = (const char *)data, *stop = at + size;

	begin(&x);
	for (int i = 0; i < LINES_MAX && at < stop; i++) {
		const char *line_end = memchr(at, '\n', (size_t)(stop - at));

		if (!line_end)
			line_end = stop;
		act(&x, at, (size_t)(line_end - at));
		at = line_end + 1;
	}
	end(&x);
	return 0;
}
