/* SPDX-License-Identifier: MIT */
/*
 * bench_requests: how many requests the kernel sends a FUSE daemon for what bench_files does by name.
 *
 * usage: bench_requests [options] LABEL=DIRECTORY=LOG...
 *
 * Each daemon is mounted on DIRECTORY with -d: libfuse then prints each request to LOG.  No time is taken.  FORGET and
 * BATCH_FORGET are left out: the kernel sends them when it likes, and waits for no answer.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench.h"

#define OPERATIONS 100
#define TARGETS_MAX 8

struct target {
	const char *label, *log;
	char other[300], name[300];
};

/* ---- operations: 0 or -errno ---- */

static int open_close(const struct target *t)
{
	int fd = open(t->other, O_RDWR | O_CLOEXEC);

	return fd < 0 || close(fd) ? -errno : 0;
}

static int stat_path(const struct target *t)
{
	struct stat st;

	return stat(t->other, &st) ? -errno : 0;
}

static int create_unlink(const struct target *t)
{
	int fd = open(t->name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	return fd < 0 || close(fd) || unlink(t->name) ? -errno : 0;
}

static int mkdir_rmdir(const struct target *t)
{
	return mkdir(t->name, 0700) || rmdir(t->name) ? -errno : 0;
}

static int rename_back(const struct target *t)
{
	return rename(t->other, t->name) || rename(t->name, t->other) ? -errno : 0;
}

/* ---- the log ---- */

/* Its size once nothing has been added for a while: the kernel does not wait for the answer to each request. */
static off_t log_end(int fd)
{
	off_t size = -1;
	struct stat st;

	for (int quiet = 0; quiet < 3; quiet++) {
		if (fstat(fd, &st))
			return -errno;
		if (st.st_size != size)
			quiet = 0;
		size = st.st_size;
		usleep(20000);
	}
	return size;
}

/* Lines about this opcode, or about any. */
static int log_count(const char *text, const char *opcode)
{
	static const char word[] = "opcode: ";
	int count = 0;

	while ((text = strstr(text, word))) {
		text += sizeof word - 1;
		if (opcode)
			count += !strncmp(text, opcode, strlen(opcode)) && text[strlen(opcode)] == ' ';
		else
			count += strncmp(text, "FORGET ", 7) && strncmp(text, "BATCH_FORGET ", 13);
	}
	return count;
}

/* What was logged meanwhile, in *text (to be freed); or -errno. */
static int log_of(const struct target *t, int (*step)(const struct target *), char **text)
{
	int fd = open(t->log, O_RDONLY | O_CLOEXEC), rc;
	off_t from, to;

	if (fd < 0)
		return -errno;
	rc = step(t);	/* once before: some requests are only made once */
	from = log_end(fd);
	if (!rc && from <= 0)
		rc = from < 0 ? (int)from : -ENODATA;
	for (int i = 0; i < OPERATIONS && !rc; i++)
		rc = step(t);
	to = rc ? from : log_end(fd);
	*text = to < from ? NULL : calloc(1, (size_t)(to - from) + 1);
	if (!rc && (!*text || pread(fd, *text, (size_t)(to - from), from) != to - from))
		rc = -EIO;
	close(fd);
	return rc;
}

static void report(struct bench *b, const char *name, const struct target *t, int count)
{
	double each = (double)count / OPERATIONS;

	bench_report(b, name, 0, t->label, "requests", &each, 1);
}

static int target_open(struct target *t, char *argument)
{
	char *dir = strchr(argument, '='), *log = dir ? strchr(dir + 1, '=') : NULL;
	int fd;

	t->label = argument;
	if (!log)
		return -EINVAL;
	*dir = *log = 0;
	t->log = log + 1;
	snprintf(t->other, sizeof t->other, "%.250s/other", dir + 1);
	snprintf(t->name, sizeof t->name, "%.250s/fresh", dir + 1);
	fd = open(t->other, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	return fd < 0 || close(fd) ? -errno : 0;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*step)(const struct target *);
	} cases[] = {
		{"FUSE requests, open+close", open_close},
		{"FUSE requests, stat", stat_path},
		{"FUSE requests, create+close+unlink", create_unlink},
		{"FUSE requests, mkdir+rmdir", mkdir_rmdir},
		{"FUSE requests, rename there and back", rename_back},
	};
	static const char *const opcodes[] = {"LOOKUP", "GETATTR", "OPEN", "FLUSH", "RELEASE"};
	static struct target targets[TARGETS_MAX];
	struct bench b;
	int n = 0;

	bench_start(&b, "files", argc, argv);
	if (b.argc < 1 || b.argc > TARGETS_MAX) {
		fprintf(stderr, "usage: %s [options] LABEL=DIRECTORY=LOG...\n", argv[0]);
		return 2;
	}
	for (int i = 0; i < b.argc; i++) {
		int rc = target_open(&targets[n], b.argv[i]);

		if (rc)
			bench_skip(&b, "FUSE requests", 0, targets[n].label, strerror(-rc));
		else
			n++;
	}
	for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++)
		for (int i = 0; i < n; i++) {
			char *text = NULL, name[64];
			int rc = bench_wanted(&b, cases[c].name) ? log_of(&targets[i], cases[c].step, &text) : -ECANCELED;

			if (rc && rc != -ECANCELED)
				bench_skip(&b, cases[c].name, 0, targets[i].label, strerror(-rc));
			if (!rc)
				report(&b, cases[c].name, &targets[i], log_count(text, NULL));
			for (size_t k = 0; !rc && !c && k < sizeof opcodes / sizeof opcodes[0]; k++) {
				snprintf(name, sizeof name, "%s: %s", cases[c].name, opcodes[k]);
				report(&b, name, &targets[i], log_count(text, opcodes[k]));
			}
			free(text);
		}
	return bench_end(&b);
}
