/* Runs a fuzz target over its saved inputs and over mutations of them, without a fuzzer: so that
 * every build notices when an old finding comes back. Prints TAP. The seed of the mutations is
 * printed; FUZZ_SEED repeats a run, FUZZ_ROUNDS sets the mutations per input.
 *   usage: fuzz_x-replay CORPUS_DIR|FILE... */

#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cow/base/cleanup.h"
#include "cow/base/clock.h"

#define INPUT_MAX (1 << 16)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t state;

static uint64_t next_random(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

/* In a block of exactly that size, so that a sanitizer sees the first byte read past it. */
static void run_one(const uint8_t *data, size_t size)
{
	CLEANUP(free_p) uint8_t *copy = malloc(size ? size : 1);

	if (!copy)
		abort();
	memcpy(copy, data, size);
	LLVMFuzzerTestOneInput(copy, size);
}

static void mutate(const uint8_t *data, size_t size, unsigned rounds)
{
	static uint8_t buf[INPUT_MAX];

	for (unsigned i = 0; i < rounds; i++) {
		size_t n = size;

		memcpy(buf, data, size);
		if (n && next_random() % 4 == 0)
			n = next_random() % (n + 1);
		for (unsigned k = next_random() % 4; n && k > 0; k--)
			buf[next_random() % n] = (uint8_t)next_random();
		run_one(buf, n);
	}
}

static unsigned done;

static int replay_file(const char *path, unsigned rounds)
{
	static uint8_t buf[INPUT_MAX];
	CLEANUP(fclose_p) FILE *f = fopen(path, "re");
	size_t n;

	if (!f) {
		printf("not ok %u - cannot open %s\n", ++done, path);
		return -1;
	}
	n = fread(buf, 1, sizeof(buf), f);
	printf("# %s\n", path); /* names the input if the next line never comes */
	fflush(stdout);
	run_one(buf, n);
	mutate(buf, n, rounds);
	printf("ok %u - %s\n", ++done, path);
	return 0;
}

static int replay(const char *path, unsigned rounds)
{
	CLEANUP(closedir_p) DIR *d = opendir(path);
	struct dirent *e;
	int r = 0;

	if (!d)
		return replay_file(path, rounds);
	while ((e = readdir(d))) {
		CLEANUP(free_p) char *file = NULL;

		if (e->d_name[0] == '.')
			continue;
		if (asprintf(&file, "%s/%s", path, e->d_name) < 0)
			abort();
		if (replay_file(file, rounds) < 0)
			r = -1;
	}
	return r;
}

int main(int argc, char **argv)
{
	const char *seed = getenv("FUZZ_SEED");
	const char *rounds = getenv("FUZZ_ROUNDS");
	unsigned n = rounds ? (unsigned)atoi(rounds) : 2000;
	int r = 0;

	state = seed ? strtoull(seed, NULL, 0) : clock_real_ns();
	if (!state)
		state = 1;
	printf("# FUZZ_SEED=%llu\n", (unsigned long long)state);
	run_one((const uint8_t *)"", 0);
	mutate((const uint8_t *)"0123456789abcdef0123456789abcdef", 32, n);
	printf("ok %u - empty and random input\n", ++done);
	for (int i = 1; i < argc; i++)
		if (replay(argv[i], n) < 0)
			r = 1;
	printf("1..%u\n", done);
	return r;
}
