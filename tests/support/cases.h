/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tests/support/cases.h - small programs that a script runs on a mount: each case in a process and a directory of its
 * own; prints "pass NAME", "fail NAME: WHERE" or "skip NAME: WHY", and "done" at the end (t_cases in umbra.sh). */
#ifndef UMBRA_TESTS_CASES_H
#define UMBRA_TESTS_CASES_H

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct test_case {
	const char *name;
	void (*run)(void);
	unsigned seconds; /* a guard against hanging, not a measure; 0: 120 */
};

/* A case that ends with another status ended before its end. */
enum { CASE_PASSED = 40, CASE_SKIPPED };

static const char *case_name;

static void __attribute__((format(printf, 2, 3), noreturn, unused))
case_end(const char *word, const char *fmt, ...)
{
	va_list ap;

	printf("%s %s: ", word, case_name);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
	_exit(strcmp(word, "fail") == 0 ? 1 : CASE_SKIPPED);
}

#define SKIP(...) case_end("skip", __VA_ARGS__)
#define FAIL(...) case_end("fail", __VA_ARGS__)
#define CHECK(cond)                                                                                \
	do {                                                                                       \
		errno = 0;                                                                         \
		if (!(cond))                                                                       \
			case_end("fail", "line %d: %s (errno %d, %s)", __LINE__, #cond, errno,     \
				 strerror(errno));                                                 \
	} while (0)
/* The call must fail with that errno. */
#define CHECK_ERRNO(call, want)                                                                    \
	do {                                                                                       \
		long long ret_ = (long long)(call);                                                \
		int err_ = errno;                                                                  \
		if (ret_ >= 0)                                                                     \
			case_end("fail", "line %d: %s gave %lld, wanted %s", __LINE__, #call,      \
				 ret_, #want);                                                     \
		if (err_ != (want))                                                                \
			case_end("fail", "line %d: %s: %s, wanted %s", __LINE__, #call,            \
				 strerror(err_), #want);                                           \
	} while (0)
#define CHECK_EQ(a, b)                                                                             \
	do {                                                                                       \
		long long a_ = (long long)(a), b_ = (long long)(b);                                \
		if (a_ != b_)                                                                      \
			case_end("fail", "line %d: %s is %lld, wanted %s = %lld", __LINE__, #a,    \
				 a_, #b, b_);                                                      \
	} while (0)

/* Wait for a child that must exit with 0; a child of a case says itself what was wrong. */
static void __attribute__((unused)) case_wait(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid)
		FAIL("waitpid: %s", strerror(errno));
	if (WIFSIGNALED(status))
		FAIL("a child was killed by signal %d", WTERMSIG(status));
	if (WEXITSTATUS(status) != 0)
		_exit(1);
}

static int case_run(const struct test_case *c, const char *dir, unsigned number)
{
	char path[4096];
	int status;
	pid_t pid;

	snprintf(path, sizeof(path), "%s/case-%u", dir, number);
	fflush(stdout);
	case_name = c->name;
	pid = fork();
	if (pid == 0) {
		alarm(c->seconds ? c->seconds : 120);
		if (mkdir(path, 0755) < 0 || chdir(path) < 0)
			FAIL("%s: %s", path, strerror(errno));
		c->run();
		_exit(CASE_PASSED);
	}
	if (waitpid(pid, &status, 0) != pid || WIFSIGNALED(status)) {
		printf("fail %s: killed by signal %d%s\n", c->name, WTERMSIG(status),
		       WTERMSIG(status) == SIGALRM ? ", it hung" : "");
		return 1;
	}
	switch (WEXITSTATUS(status)) {
	case CASE_PASSED:
		printf("pass %s\n", c->name);
		return 0;
	case CASE_SKIPPED:
		return 0;
	case 1:
		return 1; /* it has said why */
	default:
		printf("fail %s: ended early with status %d\n", c->name, WEXITSTATUS(status));
		return 1;
	}
}

static int __attribute__((unused))
cases_run(const struct test_case *list, unsigned n, const char *dir)
{
	int failed = 0;

	for (unsigned i = 0; i < n; i++)
		failed |= case_run(&list[i], dir, i);
	puts("done");
	return failed;
}

#endif
