/* SPDX-License-Identifier: MIT */
/*
 * What goes wrong around a pool: full file systems, full tables, no descriptors, no address space, a heap cut short, a
 * read-only one, signals in every system call, clocks that jump.
 *
 *   faults [CASE]
 *
 * Each case runs in a process group of its own, which is killed when it has not ended in time; prints `ok CASE` or what was
 * wrong.  Those that mount need root and are skipped without.  Status: 0, 1 a case failed, 77 all that were asked for were
 * skipped.  Full file systems are in faults_full.c, signals and clocks in faults_time.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "faults.h"

#define WATCHDOG_S 60

/* ---- a full table of slots ---- */

static void full_slots(const char *dir)
{
	struct cxlshm_client *c[3], *more;
	struct cxlshm_pool *p, *q;
	int status;
	pid_t pid;

	faults_make(dir, 4 * MIB, 3);
	MUST(cxlshm_pool_open(dir, 0, &p, NULL));
	MUST(cxlshm_pool_open(dir, 0, &q, NULL));
	for (int i = 0; i < 2; i++)
		MUST(cxlshm_join(p, NULL, 0, &c[i]));
	pid = fork();
	if (!pid) {
		struct cxlshm_pool *mine;

		MUST(cxlshm_pool_open(dir, 0, &mine, NULL));
		MUST(cxlshm_join(mine, "dying", 0, &more));
		REQUIRE(cxlshm_join(mine, NULL, 0, &more) == -EUSERS);
		kill(getpid(), SIGKILL);
	}
	MUST(waitpid(pid, &status, 0) != pid);
	REQUIRE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	/* The dead one's slot is free for whoever wants it. */
	MUST(cxlshm_join(q, NULL, 0, &c[2]));
	REQUIRE(cxlshm_join(q, NULL, 0, &more) == -EUSERS);
	MUST(cxlshm_leave(c[1]));
	MUST(cxlshm_join(q, NULL, 0, &more));
	cxlshm_pool_close(p);
	cxlshm_pool_close(q);
	faults_in_order(dir);
}

/* ---- no descriptors ---- */

#define DESCRIPTORS 64

struct short_of {
	const char *path, *others;	/* the pool, and a folder for two more */
	struct cxlshm_pool *pool;
	struct cxlshm_client *c;
	cxlshm_ref file;
};

enum wanting { OPEN, CHECK, POOL_CREATE, CREATE, EXTENT, RESIZE, RESERVE, MAP, EXTENT_OPEN, EXTENT_BUSY, WANTING };

static const char *const wanting_names[WANTING] = {"pool_open", "check", "pool_create", "create", "alloc_with",
						   "resize", "reserve", "map", "extent_open", "extent_busy"};

/* One call that needs a descriptor, and what undoes it. */
static int wanting(struct short_of *w, enum wanting which, uint64_t bytes)
{
	struct cxlshm_pool_options options = {.size_bytes = MIB, .uid = (uid_t)-1, .gid = (gid_t)-1, .force = 1};
	struct cxlshm_check_result result;
	struct cxlshm_error error = {""};
	struct cxlshm_pool *pool;
	char path[POOL_PATH];
	cxlshm_ref ref;
	void *map;
	int rc;

	snprintf(path, sizeof(path), "%s/%s", w->others, which == POOL_CREATE ? "new" : "other");
	switch (which) {
	case OPEN:
		rc = cxlshm_pool_open(path, 0, &pool, &error);
		REQUIRE(!rc || strstr(error.text, path));
		if (!rc)
			cxlshm_pool_close(pool);
		return rc;
	case CHECK:
		rc = cxlshm_check(path, 0, NULL, NULL, &result, &error);
		REQUIRE(rc ? strstr(error.text, path) != NULL : !result.problems);
		return rc;
	case POOL_CREATE:
		rc = cxlshm_pool_create(path, &options, &error);
		REQUIRE(!rc || strstr(error.text, path));
		return rc ? rc : cxlshm_pool_remove(path, NULL);
	case CREATE:
		rc = cxlshm_create(w->c, 0, "new", 10000, 0600, NULL);
		return rc ? rc : cxlshm_unlink(w->c, 0, "new");
	case EXTENT:
		rc = cxlshm_alloc_with(w->c, 10000, 0, CXLSHM_EXTENT, &ref);
		return rc ? rc : cxlshm_release(w->c, ref);
	case RESIZE:
		return cxlshm_resize(w->c, w->file, bytes);
	case RESERVE:
		return cxlshm_reserve(w->c, w->file, 0, 0, bytes);
	case MAP:
		rc = cxlshm_map(w->c, w->file, 0, 4096, PROT_READ, &map);
		return rc ? rc : cxlshm_unmap(w->c, map);
	case EXTENT_OPEN:
		rc = cxlshm_extent_open(w->c, w->file, O_RDONLY);
		if (rc >= 0)
			close(rc);
		return rc < 0 ? rc : 0;
	default:
		rc = cxlshm_extent_busy(w->c, w->file);
		return rc < 0 ? rc : 0;
	}
}

static int descriptors(void)
{
	int n = 0;

	for (int fd = 0; fd < DESCRIPTORS; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* The file is the only name, as large as that, and has as much memory. */
static void only_file(struct short_of *w, uint64_t bytes, uint64_t used_bytes)
{
	struct cxlshm_dirent entry;
	uint64_t position = 0;
	struct cxlshm_stat st;

	MUST(cxlshm_readdir(w->c, 0, &position, &entry, NULL));
	REQUIRE(!strcmp(entry.name, "file"));
	REQUIRE(cxlshm_readdir(w->c, 0, &position, &entry, NULL) == -ENOENT);
	MUST(cxlshm_stat(w->c, w->file, &st));
	REQUIRE(st.size_bytes == bytes && st.used_bytes == used_bytes && st.links == 1);
}

/* What needs no descriptor works: also to recover one that died, with a file of its own. */
static void without_descriptors(struct short_of *w)
{
	struct cxlshm_recovery recovery = {0};
	struct cxlshm_client *c;
	cxlshm_ref ref;
	int status;
	pid_t pid = fork();

	if (!pid) {
		struct cxlshm_pool *mine;

		closefrom(3);
		MUST(cxlshm_pool_open(w->path, 0, &mine, NULL));
		MUST(cxlshm_join(mine, "dying", 0, &c));
		MUST(cxlshm_alloc_with(c, 10000, 0, CXLSHM_EXTENT, &ref));
		kill(getpid(), SIGKILL);
	}
	MUST(waitpid(pid, &status, 0) != pid);
	REQUIRE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	MUST(cxlshm_recover(w->pool, &recovery));
	REQUIRE(recovery.clients == 1 && recovery.extents == 1);
	MUST(cxlshm_join(w->pool, NULL, 0, &c));
	MUST(cxlshm_leave(c));
	MUST(cxlshm_alloc(w->c, 1000, &ref));
	MUST(cxlshm_release(w->c, ref));
	MUST(cxlshm_link(w->c, w->file, 0, "second", 0));
	MUST(cxlshm_rename(w->c, 0, "second", 0, "third", 0));
	MUST(cxlshm_unlink(w->c, 0, "third"));
}

static void no_descriptors(const char *dir)
{
	int took[DESCRIPTORS], n = 0, refused[WANTING] = {0}, worked[WANTING] = {0};
	uint64_t bytes = 10000;
	char pool[POOL_PATH], path[POOL_PATH];
	struct short_of w = {.path = pool, .others = dir};
	struct rlimit limit;
	struct cxlshm_stat st;

	snprintf(pool, sizeof(pool), "%s/pool", dir);
	faults_make(pool, 4 * MIB, 3);
	snprintf(path, sizeof(path), "%s/new", dir);
	MUST(mkdir(path, 0700) ? errno : 0);
	snprintf(path, sizeof(path), "%s/other", dir);
	faults_make(path, 4 * MIB, 3);
	MUST(cxlshm_pool_open(pool, 0, &w.pool, NULL));
	MUST(cxlshm_join(w.pool, NULL, 0, &w.c));
	MUST(cxlshm_create(w.c, 0, "file", bytes, 0600, &w.file));
	MUST(getrlimit(RLIMIT_NOFILE, &limit));
	limit.rlim_cur = DESCRIPTORS;
	MUST(setrlimit(RLIMIT_NOFILE, &limit));
	while ((took[n] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
		n++;
	REQUIRE(errno == EMFILE);
	MUST(cxlshm_stat(w.c, w.file, &st));
	without_descriptors(&w);
	/* With 0, 1, 2 and so on left: each is refused with -EMFILE and has done nothing, or works, and then with more, too. */
	for (int left = 0; left < 12; left++) {
		for (enum wanting which = 0; which < WANTING; which++) {
			int open_before = descriptors(), rc = wanting(&w, which, bytes + 10000);

			if (rc && (rc != -EMFILE || worked[which])) {
				printf("FAIL %s answers %d with %d descriptors left\n", wanting_names[which], rc, left);
				exit(1);
			}
			if (!rc && !left) {
				printf("FAIL %s works without a descriptor left\n", wanting_names[which]);
				exit(1);
			}
			REQUIRE(descriptors() == open_before);
			refused[which] += rc != 0;
			worked[which] += !rc;
			if (!rc && (which == RESIZE || which == RESERVE)) {
				bytes += 10000;
				MUST(cxlshm_stat(w.c, w.file, &st));
			}
			only_file(&w, bytes, st.used_bytes);
		}
		close(took[--n]);
	}
	for (enum wanting which = 0; which < WANTING; which++)
		if (!refused[which] || !worked[which]) {
			printf("FAIL %s was refused %d times and worked %d times\n", wanting_names[which], refused[which],
			       worked[which]);
			exit(1);
		}
	printf("     %d kinds of calls were refused with EMFILE\n", (int)WANTING);
	while (n)
		close(took[--n]);
	cxlshm_pool_close(w.pool);
	faults_in_order(pool);
	faults_in_order(path);
}

/* ---- no address space ---- */

static void no_address_space(const char *dir)
{
	struct cxlshm_check_result result;
	struct cxlshm_error error = {""};
	struct cxlshm_client *c;
	struct cxlshm_pool *p, *other;
	struct rlimit limit;
	cxlshm_ref file;
	void *map;
	int rc;

	faults_make(dir, 64 * MIB, 4);
	MUST(cxlshm_pool_open(dir, 0, &p, NULL));
	MUST(cxlshm_join(p, NULL, 0, &c));
	MUST(cxlshm_create(c, 0, "file", 40 * MIB, 0600, &file));
	MUST(getrlimit(RLIMIT_AS, &limit));
	limit.rlim_cur = 64 * MIB + 30 * MIB;	/* the heap is mapped already */
	MUST(setrlimit(RLIMIT_AS, &limit));
	rc = cxlshm_pool_open(dir, 0, &other, &error);
	REQUIRE(rc == -ENOMEM && strstr(error.text, dir));
	REQUIRE(cxlshm_map(c, file, 0, 40 * MIB, PROT_READ, &map) == -ENOMEM);
	REQUIRE(cxlshm_size(c, file) == (int64_t)(40 * MIB));
	MUST(cxlshm_map(c, file, 0, 4096, PROT_READ, &map));
	MUST(cxlshm_unmap(c, map));
	MUST(cxlshm_unlink(c, 0, "file"));
	MUST(cxlshm_release(c, file));
	cxlshm_pool_close(p);
	/* Less than the heap is refused; somewhere above it there is enough, for what the checker wants beside it, too. */
	limit.rlim_cur = 48 * MIB;
	for (rc = -ENOMEM; rc == -ENOMEM && limit.rlim_cur < 256 * MIB; limit.rlim_cur += 2 * MIB) {
		MUST(setrlimit(RLIMIT_AS, &limit));
		rc = cxlshm_check(dir, 0, NULL, NULL, &result, NULL);
		REQUIRE(rc == -ENOMEM || (!rc && limit.rlim_cur > 64 * MIB && !result.problems));
	}
	REQUIRE(!rc);
	limit.rlim_cur = limit.rlim_max;
	MUST(setrlimit(RLIMIT_AS, &limit));
	faults_in_order(dir);
}

/* ---- a heap cut short ---- */

/* The kernel's answer to touching what a truncated file no longer has is SIGBUS, for those that had it mapped; nobody
 * can mend that for them.  Whoever opens it afterwards is told, and other pools do not mind. */
static void truncated_heap(const char *dir)
{
	char path[80], other[80];
	struct cxlshm_check_result result;
	struct cxlshm_error error = {""};
	struct cxlshm_client *c;
	struct cxlshm_pool *p, *q;
	cxlshm_ref ref;
	int status;
	pid_t pid;

	snprintf(other, sizeof(other), "%s/other", dir);
	snprintf(path, sizeof(path), "%s/pool", dir);
	faults_make(path, 4 * MIB, 3);
	faults_make(other, 4 * MIB, 3);
	MUST(cxlshm_pool_open(other, 0, &q, NULL));
	MUST(cxlshm_join(q, NULL, 0, &c));
	pid = fork();
	if (!pid) {
		char heap[100];

		snprintf(heap, sizeof(heap), "%s/heap", path);
		MUST(cxlshm_pool_open(path, 0, &p, NULL));
		MUST(cxlshm_join(p, NULL, 0, &c));
		MUST(truncate(heap, 8192));
		for (;;)
			cxlshm_alloc(c, 1000, &ref);
	}
	MUST(waitpid(pid, &status, 0) != pid);
	REQUIRE(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
	REQUIRE(cxlshm_pool_open(path, 0, &p, &error) == -EUCLEAN && strstr(error.text, path));
	/* Nobody has it open, or the answer would be that. */
	REQUIRE(cxlshm_check(path, 0, NULL, NULL, &result, NULL) == -EUCLEAN);
	REQUIRE(cxlshm_check(path, CXLSHM_CHECK_REPAIR, NULL, NULL, &result, NULL) == -EUCLEAN);
	MUST(cxlshm_alloc(c, 1000, &ref));
	MUST(cxlshm_create(c, 0, "file", 5000, 0600, NULL));
	cxlshm_pool_close(q);
	faults_in_order(other);
}

/* ---- a pool that may only be read ---- */

static int one_more(void *arg, const struct cxlshm_object_info *info)
{
	(void)info;
	++*(int *)arg;
	return 0;
}

static void read_only(const char *dir)
{
	struct cxlshm_check_result result;
	struct cxlshm_client *c;
	struct cxlshm_pool *p;
	char command[400];
	int objects = 0;

	faults_make(dir, 4 * MIB, 3);
	MUST(cxlshm_pool_open(dir, 0, &p, NULL));
	MUST(cxlshm_join(p, NULL, 0, &c));
	MUST(cxlshm_create(c, 0, "file", 5000, 0600, NULL));
	cxlshm_pool_close(p);
	MUST(cxlshm_pool_open(dir, CXLSHM_READONLY, &p, NULL));
	REQUIRE(cxlshm_join(p, NULL, 0, &c) == -EROFS);
	REQUIRE(cxlshm_recover(p, NULL) == -EROFS);
	MUST(cxlshm_each_object(p, one_more, &objects));
	REQUIRE(objects >= 2);
	cxlshm_pool_close(p);
	/* Files that may not be written: for those that privilege does not carry over that. */
	snprintf(command, sizeof(command), "chmod -R a-w '%s'; chmod a+rx '%s' '%s/x'; chmod a+r '%s/heap'", dir, dir, dir, dir);
	MUST(system(command));
	if (!geteuid())
		MUST(setresuid(65534, 65534, 65534));
	REQUIRE(cxlshm_pool_open(dir, 0, &p, NULL) == -EACCES);
	MUST(cxlshm_pool_open(dir, CXLSHM_READONLY, &p, NULL));
	REQUIRE(cxlshm_join(p, NULL, 0, &c) == -EROFS);
	cxlshm_pool_close(p);
	REQUIRE(cxlshm_check(dir, CXLSHM_CHECK_REPAIR, NULL, NULL, &result, NULL) == -EACCES);
}

/* ---- all of them ---- */

static const struct test {
	const char *name;
	void (*run)(const char *dir);	/* an empty folder of its own */
} tests[] = {
	{"full_tmpfs", faults_full_tmpfs},
	{"full_tmpfs_span", faults_full_tmpfs_span},
	{"full_tmpfs_tail", faults_full_tmpfs_tail},
	{"full_tmpfs_join", faults_full_tmpfs_join},
	{"full_slots", full_slots},
	{"no_descriptors", no_descriptors},
	{"no_address_space", no_address_space},
	{"truncated_heap", truncated_heap},
	{"read_only", read_only},
	{"signals", faults_signals},
	{"signal_in_each_call", faults_signal_in_each_call},
	{"clock_jumps", faults_clock_jumps},
};

/* What a case does with signals and children is its own: the clock is kept outside of it. */
static int ended(pid_t pid)
{
	const struct timespec nap = {0, 5000000};
	double end = faults_now() + WATCHDOG_S;
	int status = -1, killed = 0;

	while (!waitpid(pid, &status, WNOHANG)) {
		if (!killed && faults_now() > end) {
			printf("FAIL not done after %d s: killed\n", WATCHDOG_S);
			killed = 1;
			kill(-pid, SIGKILL);
		}
		nanosleep(&nap, NULL);
	}
	kill(-pid, SIGKILL);	/* children that it left */
	return status;
}

int main(int argc, char **argv)
{
	int passed = 0, failed = 0, skipped = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
		char dir[64], command[200];
		int status;
		pid_t pid;

		if (argc > 1 && strcmp(argv[1], tests[i].name))
			continue;
		snprintf(dir, sizeof(dir), "%s/cxlshm-faults-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
		MUST(!mkdtemp(dir));
		fflush(NULL);
		pid = fork();
		MUST(pid < 0);
		if (!pid) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			setpgid(0, 0);
			tests[i].run(dir);
			exit(0);
		}
		setpgid(pid, pid);
		status = ended(pid);
		snprintf(command, sizeof(command), "chmod -R u+rwX '%s' && rm -rf '%s'", dir, dir);
		if (system(command)) {
			printf("FAIL %s is left\n", dir);
			failed++;
		}
		if (WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED) {
			printf("skip %s: needs root\n", tests[i].name);
			skipped++;
		} else if (status) {
			printf("FAIL %s (status 0x%x)\n     replay: %s %s\n"
			       "     if that is gone: meson setup B --buildtype=release && ninja -C B tests/faults/faults, then "
			       "B/tests/faults/faults\n", tests[i].name, (unsigned)status, argv[0], tests[i].name);
			failed++;
		} else {
			printf("ok   %s\n", tests[i].name);
			passed++;
		}
	}
	printf("faults: %d passed, %d failed, %d skipped\n", passed, failed, skipped);
	if (skipped && getenv("CXLSHM_REQUIRE_FUSE") && !strcmp(getenv("CXLSHM_REQUIRE_FUSE"), "1")) {
		printf("FAIL CXLSHM_REQUIRE_FUSE=1 does not let cases be skipped\n");
		failed++;
	}
	return failed || !(passed + skipped) ? 1 : passed ? 0 : SKIPPED;
}
