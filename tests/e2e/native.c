/* SPDX-License-Identifier: MIT */
/*
 * native: a native client for the end-to-end scripts, one command a line on standard input.
 *
 *   native POOL [NAME]
 *
 * Each command is answered with one line: "ok", perhaps with a value, or "error ENAME".  The client works on
 * one object at a time, the current one:
 *   create PATH SIZE     a file object            extent SIZE         a nameless one, page-granular
 *   heap SIZE TEXT       a heap object            open PATH           look PATH up
 *   queue CAPACITY       a queue
 *   link PATH            name the current object  unlink PATH
 *   attach N             N more references        release N           drop N of those
 *   drop                 let go of the current object and of all references to it
 *   map                  map all of it            unmap
 *   store OFFSET TEXT    load OFFSET LENGTH       await OFFSET TEXT   until it reads TEXT: microseconds
 *   resize SIZE          id                       size                refs                kind
 *   slot                 its client slot          recover             clients recovered
 *   extent_bytes         (of the whole pool)      fork                a child that holds all and sleeps: its pid
 *   quit                 as does the end of the input; "ok bye" when all has been dropped and left
 */
#include <cxlshm.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define REFS_MAX 200000

struct native {
	struct cxlshm_pool *pool;
	struct cxlshm_client *client;
	cxlshm_ref ref;
	cxlshm_ref *more;
	size_t more_count;
	char *bytes;	/* of the current object, mapped or in the heap */
	void *map;
};

static int answer(int rc)
{
	if (rc < 0)
		printf("error %s\n", strerrorname_np(-rc));
	else
		printf("ok\n");
	return rc;
}

static void take(struct native *n, cxlshm_ref ref)
{
	n->ref = ref;
	n->bytes = cxlshm_ptr(n->client, ref);
}

static int drop(struct native *n)
{
	int rc = 0;
	while (n->more_count && !rc)
		rc = cxlshm_release(n->client, n->more[--n->more_count]);
	if (!rc && n->map)
		rc = cxlshm_unmap(n->client, n->map);
	n->map = n->bytes = NULL;
	if (!rc && n->ref)
		rc = cxlshm_release(n->client, n->ref);
	n->ref = 0;
	return rc;
}

static int attach(struct native *n, uint64_t count)
{
	int rc = 0;
	while (count-- && !rc && n->more_count < REFS_MAX) {
		rc = cxlshm_attach(n->client, n->ref, &n->more[n->more_count]);
		n->more_count += !rc;
	}
	return rc;
}

static int release(struct native *n, uint64_t count)
{
	int rc = 0;
	while (count-- && !rc && n->more_count)
		rc = cxlshm_release(n->client, n->more[--n->more_count]);
	return rc;
}

static int map(struct native *n)
{
	int64_t size = cxlshm_size(n->client, n->ref);
	if (size < 0)
		return (int)size;
	int rc = cxlshm_map(n->client, n->ref, 0, (size_t)size, PROT_READ | PROT_WRITE, &n->map);
	if (!rc)
		n->bytes = n->map;
	return rc;
}

static uint64_t now_us(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static int await(struct native *n, uint64_t offset, const char *text, uint64_t *us)
{
	size_t length = strlen(text);
	uint64_t start = now_us();
	for (;;) {
		size_t same = 0;
		while (same < length && ((volatile char *)n->bytes)[offset + same] == text[same])
			same++;
		*us = now_us() - start;
		if (same == length)
			return 0;
		if (*us > 30000000)
			return -ETIMEDOUT;
	}
}

/* Commands whose answer is a number. */
static int number(struct native *n, const char *command, int64_t *value)
{
	struct cxlshm_stat st;
	struct cxlshm_recovery recovery;
	struct cxlshm_counters counters;
	int rc = 0;
	if (!strcmp(command, "id")) {
		*value = (int64_t)cxlshm_id(n->client, n->ref);
	} else if (!strcmp(command, "size")) {
		*value = cxlshm_size(n->client, n->ref);
		rc = *value < 0 ? (int)*value : 0;
	} else if (!strcmp(command, "kind")) {
		*value = (int64_t)cxlshm_kind(n->client, n->ref);
	} else if (!strcmp(command, "slot")) {
		*value = cxlshm_client_id(n->client);
	} else if (!strcmp(command, "refs")) {
		rc = cxlshm_stat(n->client, n->ref, &st);
		*value = rc ? 0 : (int64_t)st.refs;
	} else if (!strcmp(command, "recover")) {
		rc = cxlshm_recover(n->pool, &recovery);
		*value = rc ? 0 : recovery.clients;
	} else if (!strcmp(command, "extent_bytes")) {
		rc = cxlshm_counters(n->pool, &counters);
		*value = rc ? 0 : (int64_t)counters.extent_bytes;
	} else if (!strcmp(command, "fork")) {
		fflush(stdout);
		pid_t pid = fork();
		while (!pid)
			pause();
		*value = pid;
		rc = pid < 0 ? -errno : 0;
	} else {
		return 1;
	}
	if (rc)
		printf("error %s\n", strerrorname_np(-rc));
	else
		printf("ok %" PRId64 "\n", *value);
	return 0;
}

static void run(struct native *n, char *line)
{
	char *command = strtok(line, " "), *a = strtok(NULL, " "), *b = strtok(NULL, "");
	uint64_t x = a ? strtoull(a, NULL, 0) : 0, us;
	int64_t value;
	cxlshm_ref ref;
	int rc;
	if (!command)
		return;
	if (!number(n, command, &value))
		return;
	if (!strcmp(command, "create")) {
		if (!answer(cxlshm_create(n->client, 0, a, b ? strtoull(b, NULL, 0) : 0, 0644, &ref)))
			take(n, ref);
	} else if (!strcmp(command, "extent")) {
		if (!answer(cxlshm_alloc_with(n->client, x, 0, CXLSHM_EXTENT, &ref)))
			take(n, ref);
	} else if (!strcmp(command, "heap")) {
		rc = cxlshm_alloc_with(n->client, x, 0, CXLSHM_ZERO, &ref);
		if (!rc) {
			take(n, ref);
			memcpy(n->bytes, b ? b : "", b ? strlen(b) : 0);
		}
		answer(rc);
	} else if (!strcmp(command, "queue")) {
		if (!answer(cxlshm_queue_create(n->client, (uint32_t)x, 0, &ref)))
			take(n, ref);
	} else if (!strcmp(command, "open")) {
		if (!answer(cxlshm_lookup(n->client, 0, a, 0, &ref)))
			take(n, ref);
	} else if (!strcmp(command, "link")) {
		answer(cxlshm_link(n->client, n->ref, 0, a, 0644));
	} else if (!strcmp(command, "unlink")) {
		answer(cxlshm_unlink(n->client, 0, a));
	} else if (!strcmp(command, "resize")) {
		answer(cxlshm_resize(n->client, n->ref, x));
	} else if (!strcmp(command, "attach")) {
		answer(attach(n, x));
	} else if (!strcmp(command, "release")) {
		answer(release(n, x));
	} else if (!strcmp(command, "drop")) {
		answer(drop(n));
	} else if (!strcmp(command, "map")) {
		answer(map(n));
	} else if (!strcmp(command, "unmap")) {
		answer(cxlshm_unmap(n->client, n->map));
		n->map = n->bytes = NULL;
	} else if (!n->bytes && (!strcmp(command, "store") || !strcmp(command, "load") || !strcmp(command, "await"))) {
		answer(-EFAULT);
	} else if (!strcmp(command, "store")) {
		memcpy(n->bytes + x, b, strlen(b));
		answer(0);
	} else if (!strcmp(command, "load")) {
		printf("ok %.*s\n", b ? atoi(b) : 1, n->bytes + x);
	} else if (!strcmp(command, "await")) {
		rc = await(n, x, b ? b : "", &us);
		if (rc)
			answer(rc);
		else
			printf("ok %" PRIu64 "\n", us);
	} else {
		printf("error unknown command %s\n", command);
	}
}

int main(int argc, char **argv)
{
	struct native n = {.more = calloc(REFS_MAX, sizeof(cxlshm_ref))};
	struct cxlshm_error error;
	char line[4096];
	if (argc < 2 || !n.more)
		return fprintf(stderr, "usage: native POOL [NAME]\n"), 2;
	int rc = cxlshm_pool_open(argv[1], 0, &n.pool, &error);
	if (rc)
		return printf("error %s %s\n", strerrorname_np(-rc), error.text), 1;
	rc = cxlshm_join(n.pool, argc > 2 ? argv[2] : "native", 0, &n.client);
	if (rc)
		return printf("error %s\n", strerrorname_np(-rc)), 1;
	printf("ok ready\n");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = 0;
		if (!strcmp(line, "quit"))
			break;
		run(&n, line);
		fflush(stdout);
	}
	rc = drop(&n);
	if (!rc)
		rc = cxlshm_leave(n.client);
	cxlshm_pool_close(n.pool);
	free(n.more);
	if (rc)
		return answer(rc), 1;
	printf("ok bye\n");
	return 0;
}
