#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "coordinator/client/client.h"
#include "coordinator/client/stream.h"
#include "coordinator/client/wire.h"
#include "tests/support/leaks.h"

static struct umbra_wire *wire(void)
{
	struct umbra_wire *w = umbra_wire_new(UMBRA_WIRE_MAX);

	cr_assert(w);
	return w;
}

static void feed(struct umbra_wire *w, const char *bytes, size_t len)
{
	cr_assert_eq(umbra_wire_feed(w, bytes, len, NULL, 0), 0);
}

static void expect(struct umbra_wire *w, const char *method)
{
	json_t *message = NULL;
	int fd = 7;

	cr_assert_eq(umbra_wire_next(w, &message, &fd), 1, "%s", umbra_wire_problem(w));
	cr_expect_eq(fd, -1);
	cr_expect_str_eq(json_string_value(json_object_get(message, "method")), method);
	json_decref(message);
}

static int next(struct umbra_wire *w)
{
	json_t *message = (json_t *)w;
	int r = umbra_wire_next(w, &message, NULL);

	if (r == 1)
		json_decref(message);
	else
		cr_expect_eq(message, (json_t *)w, "ret was touched");
	return r;
}

static const char two[] =
	"{\"method\":\"a.B\",\"parameters\":{\"x\":[1,2,{\"y\":\"}\\\"{\"}]}}\0{\"method\":\"c.D\"}";

Test(coord_wire, stream_cut_at_every_byte_gives_the_same_messages)
{
	for (size_t cut = 0; cut <= sizeof(two); cut++) {
		struct umbra_wire *w = wire();

		feed(w, two, cut);
		if (cut > strlen(two))
			expect(w, "a.B");
		if (cut < sizeof(two)) {
			cr_expect_eq(next(w), 0, "cut %zu", cut);
			cr_expect_eq(umbra_wire_partial(w) > 0, cut > 0 && cut != strlen(two) + 1);
		}
		feed(w, two + cut, sizeof(two) - cut);
		if (cut <= strlen(two))
			expect(w, "a.B");
		expect(w, "c.D");
		cr_expect_eq(next(w), 0);
		cr_expect_eq(umbra_wire_partial(w), 0);
		umbra_wire_free(w);
	}
	assert_no_leaks();
}

Test(coord_wire, message_truncated_at_every_byte_is_refused)
{
	for (size_t len = 0; len < strlen(two); len++) {
		struct umbra_wire *w = wire();

		feed(w, two, len);
		feed(w, "", 1);
		cr_expect_eq(next(w), -EPROTO, "length %zu", len);
		cr_expect_neq(umbra_wire_problem(w)[0], 0);
		umbra_wire_free(w);
	}
	assert_no_leaks();
}

static void refused(const char *text, size_t len)
{
	struct umbra_wire *w = wire();

	feed(w, text, len);
	cr_expect_eq(next(w), -EPROTO, "%s", text);
	umbra_wire_free(w);
}

Test(coord_wire, garbage_is_refused)
{
	static const char *const texts[] = {
		"",
		"x",
		"[]",
		"\"text\"",
		"1",
		"null",
		"{} {}",
		"{\"a\":1,}",
		"{'a':1}",
		"{\"a\":\"\xff\"}",
		"{\"a\":\"\\u0000\"}",
		"{\"a\":\"\\ud800\"}",
		"{\"a\":1e999}",
		"{\"a\":1,\"a\":2}",
		"\xef\xbb\xbf{}",
		"{\"a\":99999999999999999999999}",
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++)
		refused(texts[i], strlen(texts[i]) + 1);
	assert_no_leaks();
}

static char *nested(size_t depth, char open, char close)
{
	char *text = calloc(1, 2 * depth + 16), *p = text;

	p += sprintf(p, "{\"a\":");
	memset(p, open, depth - 1);
	p += depth - 1;
	memset(p, close, depth - 1);
	p += depth - 1;
	strcpy(p, "}");
	return text;
}

Test(coord_wire, depth_is_limited)
{
	struct umbra_wire *w = wire();
	char *text = nested(UMBRA_WIRE_DEPTH, '[', ']');

	feed(w, text, strlen(text) + 1);
	cr_expect_eq(next(w), 1);
	free(text);
	text = nested(UMBRA_WIRE_DEPTH + 1, '[', ']');
	refused(text, strlen(text) + 1);
	free(text);
	text = nested(400000, '[', ']');
	refused(text, strlen(text) + 1);
	free(text);
	text = nested(400000, '{', '}');
	refused(text, strlen(text) + 1);
	free(text);
	umbra_wire_free(w);
	assert_no_leaks();
}

/* The coordinator puts a document of depth 30 into a message of its own. */
Test(coord_wire, clients_take_what_is_nested_deeper)
{
	struct umbra_wire *w = umbra_wire_new(UMBRA_WIRE_MAX_REPLY);
	char *text = nested(UMBRA_WIRE_DEPTH_REPLY, '[', ']');

	feed(w, text, strlen(text) + 1);
	cr_expect_eq(next(w), 1);
	free(text);
	text = nested(UMBRA_WIRE_DEPTH_REPLY + 1, '[', ']');
	feed(w, text, strlen(text) + 1);
	cr_expect_eq(next(w), -EPROTO);
	free(text);
	umbra_wire_free(w);
	assert_no_leaks();
}

static char *long_message(const char *method, size_t len)
{
	char *text = malloc(len + 1);
	size_t head = (size_t)sprintf(text, "{\"method\":\"%s\",\"x\":\"", method);

	memset(text + head, 'x', len - head - 2);
	strcpy(text + len - 2, "\"}");
	return text;
}

Test(coord_wire, length_is_limited_and_known_before_the_end_comes)
{
	struct umbra_wire *w = wire();
	char *text = long_message("io.umbra.Query", UMBRA_WIRE_MAX), *big;
	int r = 0;

	feed(w, text, UMBRA_WIRE_MAX + 1);
	expect(w, "io.umbra.Query");
	free(text);
	text = long_message("io.umbra.Query", UMBRA_WIRE_MAX + 1);
	feed(w, text, UMBRA_WIRE_MAX + 1); /* without its NUL */
	cr_expect_eq(next(w), -EMSGSIZE);
	umbra_wire_free(w);
	free(text);

	w = wire(); /* 10 MB without NUL are refused long before */
	big = calloc(1, 1 << 16);
	memset(big, 'x', 1 << 16);
	for (int i = 0; i < 160 && r == 0; i++) {
		feed(w, big, 1 << 16);
		r = next(w);
	}
	cr_expect_eq(r, -EMSGSIZE);
	cr_expect_leq(umbra_wire_partial(w), UMBRA_WIRE_MAX + (1 << 16));
	umbra_wire_free(w);
	free(big);
	assert_no_leaks();
}

Test(coord_wire, calls_that_carry_lists_may_be_longer)
{
	struct umbra_wire *w = wire();
	char *text = long_message("io.umbra.RegisterProvider", UMBRA_WIRE_MAX_LARGE);

	feed(w, text, UMBRA_WIRE_MAX + 1);
	cr_assert_eq(next(w), -EMSGSIZE, "not unless it was allowed");
	umbra_wire_free(w);
	w = wire();
	umbra_wire_allow_large(w);

	for (size_t at = 0; at <= UMBRA_WIRE_MAX_LARGE; at += 1 << 16) {
		size_t len = UMBRA_WIRE_MAX_LARGE + 1 - at;

		feed(w, text + at, len < 1 << 16 ? len : 1 << 16);
		if (len > 1 << 16)
			cr_assert_eq(next(w), 0);
	}
	expect(w, "io.umbra.RegisterProvider");
	free(text);
	text = long_message("io.umbra.ProviderAnswer", UMBRA_WIRE_MAX_LARGE + 1);
	feed(w, text, UMBRA_WIRE_MAX_LARGE + 2);
	cr_expect_eq(next(w), -EMSGSIZE);
	free(text);
	umbra_wire_free(w);
	assert_no_leaks();
}

static int file(void)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	cr_assert_geq(fd, 0);
	return fd;
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

Test(coord_wire, descriptor_belongs_to_the_message_that_carried_it)
{
	struct umbra_wire *w = wire();
	json_t *message;
	int fd = file(), got = -2;

	feed(w, "{\"method\":\"a\"}\0{\"meth", 21);
	cr_assert_eq(umbra_wire_feed(w, "od\":\"b\"}", 8, &fd, 1), 0);
	expect(w, "a");
	feed(w, "\0{\"method\":\"c\"}", 16);
	cr_assert_eq(umbra_wire_next(w, &message, &got), 1);
	cr_expect_str_eq(json_string_value(json_object_get(message, "method")), "b");
	cr_expect_eq(got, fd);
	json_decref(message);
	close(got);
	expect(w, "c");
	umbra_wire_free(w);
	assert_no_leaks();
}

Test(coord_wire, descriptors_nobody_takes_are_closed)
{
	struct umbra_wire *w = wire();
	int fds[UMBRA_WIRE_FDS + 1];

	for (size_t i = 0; i < UMBRA_WIRE_FDS + 1; i++)
		fds[i] = file();
	cr_expect_eq(umbra_wire_feed(w, "{", 1, fds, UMBRA_WIRE_FDS + 1), -EPROTO);
	for (size_t i = 0; i < UMBRA_WIRE_FDS + 1; i++)
		cr_expect(!is_open(fds[i]));
	fds[0] = file();
	fds[1] = file();
	cr_expect_eq(umbra_wire_feed(w, "{}", 3, fds, 2), 0);
	cr_expect_eq(next(w), 1); /* ret_fd NULL */
	cr_expect(!is_open(fds[0]) && !is_open(fds[1]));
	fds[0] = file();
	cr_expect_eq(umbra_wire_feed(w, "{", 1, fds, 1), 0);
	umbra_wire_free(w);
	cr_expect(!is_open(fds[0]));
	assert_no_leaks();
}

/* Both ends on a real socket with a small buffer, so that messages are sent in pieces. */
Test(coord_wire, descriptors_cross_a_socket_with_their_messages)
{
	struct umbra_wire *out = wire(), *in = wire();
	int ends[2], small = 1, fd = file(), sent = 0, got = 0;
	struct stat a, b;

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
	setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	fstat(fd, &a);
	for (int i = 0; i < 40; i++) {
		char *text = long_message("m", 100 + (size_t)i * 500);
		json_t *message = json_loads(text, 0, NULL);

		json_object_set_new(message, "n", json_integer(i));
		cr_assert_eq(umbra_wire_put(out, message, i % 3 == 0 ? fd : -1), 0);
		json_decref(message);
		free(text);
	}
	while (got < 40 && sent++ < 100000) {
		json_t *message;
		int came = -1;

		cr_assert_neq(umbra_stream_write(ends[0], out), -EPIPE);
		cr_assert_neq(umbra_stream_read(ends[1], in), 0);
		while (umbra_wire_next(in, &message, &came) == 1) {
			cr_expect_eq(json_integer_value(json_object_get(message, "n")), got);
			cr_expect_eq(came >= 0, got % 3 == 0, "message %d", got);
			if (came >= 0) {
				cr_expect(fcntl(came, F_GETFD) & FD_CLOEXEC); /* D-10 */
				fstat(came, &b);
				cr_expect_eq(a.st_rdev, b.st_rdev);
				close(came);
			}
			json_decref(message);
			got++;
		}
	}
	cr_expect_eq(got, 40);
	cr_expect_eq(umbra_wire_queued(out), 0);
	umbra_wire_free(out);
	umbra_wire_free(in);
	assert_no_leaks();
}

Test(coord_wire, peer_that_hung_up_raises_no_signal)
{
	struct umbra_wire *out = wire();
	json_t *message = json_object();
	int ends[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	close(ends[1]);
	cr_assert_eq(umbra_wire_put(out, message, -1), 0);
	cr_expect_eq(umbra_stream_write(ends[0], out), -EPIPE); /* D-9 */
	json_decref(message);
	umbra_wire_free(out);
	assert_no_leaks();
}

/* ---- paths ---- */

static void path_round_trip(const char *path, bool plain)
{
	json_t *o = json_object();
	char *back, *text;

	cr_assert_eq(umbra_json_set_path(o, "p", path), 0);
	cr_expect_eq(json_object_get(o, "p_base64") == NULL, plain);
	text = json_dumps(o, JSON_COMPACT);
	json_decref(o);
	o = json_loads(text, 0, NULL);
	cr_assert(o, "not JSON: %s", text);
	back = umbra_json_get_path(o, "p");
	cr_assert(back);
	cr_expect_str_eq(back, path);
	free(back);
	free(text);
	json_decref(o);
}

Test(coord_wire, any_path_bytes_survive)
{
	char all[260] = "/", pairs[3] = { 0 };

	path_round_trip("", true);
	path_round_trip("/plain/path", true);
	path_round_trip("/Gr\xc3\xbc\xc3\x9f/\xe2\x82\xac/\xf0\x9f\x98\x80", true);
	path_round_trip("/new\nline \"quoted\" \\back", true);
	path_round_trip("/latin1/\xe4", false);
	path_round_trip("\xff", false);
	path_round_trip("\xff\xfe", false);
	path_round_trip("\xff\xfe\xfd", false);
	path_round_trip("/\xed\xa0\x80", false); /* surrogate */
	path_round_trip("/\xc0\xaf", false);	 /* overlong */
	path_round_trip("/\xf4\x90\x80\x80", false);
	path_round_trip("/\xe2\x82", false); /* cut */
	for (int i = 1; i < 256; i++)
		all[i] = (char)i;
	path_round_trip(all, false);
	for (int a = 1; a < 256; a++)
		for (int b = 1; b < 256; b += 7) {
			json_t *o = json_object();
			char *back;

			pairs[0] = (char)a;
			pairs[1] = (char)b;
			cr_assert_eq(umbra_json_set_path(o, "p", pairs), 0);
			back = umbra_json_get_path(o, "p");
			cr_assert_str_eq(back, pairs);
			free(back);
			json_decref(o);
		}
	assert_no_leaks();
}

Test(coord_wire, people_see_replacement_characters)
{
	json_t *o = json_object();

	cr_assert_eq(umbra_json_set_path(o, "p", "/a\xffz"), 0);
	cr_expect_str_eq(json_string_value(json_object_get(o, "p")), "/a\xef\xbf\xbdz");
	cr_expect_str_eq(json_string_value(json_object_get(o, "p_base64")), "L2H/eg==");
	cr_assert_eq(umbra_json_set_path(o, "p", "/plain"), 0);
	cr_expect_null(json_object_get(o, "p_base64"), "the old bytes must not win");
	json_decref(o);
	assert_no_leaks();
}

static void no_path(const char *object, int want)
{
	json_t *o = json_loads(object, 0, NULL);

	cr_assert(o);
	errno = 0;
	cr_expect_null(umbra_json_get_path(o, "p"), "%s", object);
	cr_expect_eq(errno, want, "%s", object);
	json_decref(o);
}

Test(coord_wire, malformed_paths_are_told_from_absent_ones)
{
	no_path("{}", ENOENT);
	no_path("{\"p\":null,\"p_base64\":null}", ENOENT);
	no_path("{\"p\":1}", EINVAL);
	no_path("{\"p\":\"/a\",\"p_base64\":1}", EINVAL);
	no_path("{\"p\":\"/a\",\"p_base64\":\"L2H\"}", EINVAL);
	no_path("{\"p\":\"/a\",\"p_base64\":\"L2H=\"}", EINVAL); /* unused bits */
	no_path("{\"p\":\"/a\",\"p_base64\":\"L=H=\"}", EINVAL);
	no_path("{\"p\":\"/a\",\"p_base64\":\"====\"}", EINVAL);
	no_path("{\"p\":\"/a\",\"p_base64\":\"L2 h\"}", EINVAL);
	no_path("{\"p\":\"/a\",\"p_base64\":\"L2EA\"}", EINVAL); /* holds a 0 */
	assert_no_leaks();
}
